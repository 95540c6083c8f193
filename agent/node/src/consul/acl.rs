//! `/v1/acl`: policies and tokens.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Consul, Error, escape};
use ballast_bundle::{AclPolicy, AclToken};

/// A policy as the list of policies shows it, without its rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PolicyStub {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) name: String,
}

/// A token as the list of tokens shows it, without its secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TokenStub {
    #[serde(rename = "AccessorID")]
    pub(crate) accessor_id: String,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) policies: Option<Vec<PolicyStub>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    rules: String,
}

impl Consul {
    pub(crate) async fn policies(&self) -> Result<Vec<PolicyStub>, Error> {
        self.get("/v1/acl/policies").await?.json()
    }

    pub(crate) async fn policy(&self, id: &str) -> Result<AclPolicy, Error> {
        let policy: Policy = self.get(&format!("/v1/acl/policy/{}", escape(id))).await?.json()?;
        Ok(AclPolicy { name: policy.name, description: policy.description, rules: policy.rules })
    }

    /// Creates a policy, or changes the one with this id.
    pub(crate) async fn put_policy(
        &self,
        id: Option<&str>,
        policy: &AclPolicy,
    ) -> Result<(), Error> {
        let mut body = json!({
            "Name": policy.name, "Description": policy.description, "Rules": policy.rules,
        });
        if let Some(id) = id {
            body["ID"] = json!(id);
        }
        let path =
            id.map_or("/v1/acl/policy".to_owned(), |id| format!("/v1/acl/policy/{}", escape(id)));
        self.put(&path, &body).await.map(|_| ())
    }

    pub(crate) async fn tokens(&self) -> Result<Vec<TokenStub>, Error> {
        self.get("/v1/acl/tokens").await?.json()
    }

    /// Creates a token with the identifiers that the bundle chose, or changes the one that has them.
    pub(crate) async fn put_token(&self, exists: bool, token: &AclToken) -> Result<(), Error> {
        let policies: Vec<Value> =
            token.policies.iter().map(|name| json!({ "Name": name })).collect();
        let body = json!({
            "AccessorID": token.accessor_id, "SecretID": token.secret_id,
            "Description": token.description, "Policies": policies,
        });
        let path = if exists {
            format!("/v1/acl/token/{}", escape(&token.accessor_id))
        } else {
            "/v1/acl/token".to_owned()
        };
        self.put(&path, &body).await.map(|_| ())
    }

    /// Removes a token; its secret is nobody's from then on.
    pub(crate) async fn delete_token(&self, accessor: &str) -> Result<(), Error> {
        self.delete(&format!("/v1/acl/token/{}", escape(accessor))).await.map(|_| ())
    }
}
