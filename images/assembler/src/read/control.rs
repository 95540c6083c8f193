//! Reads Debian control paragraphs (deb822(5)): fields with continuation lines.

/// One paragraph, fields in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph(Vec<(String, String)>);

impl Paragraph {
    /// Reads the first paragraph of a control file. Lines that are no fields are passed over.
    pub fn read(text: &str) -> Self {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if line.trim().is_empty() {
                if fields.is_empty() {
                    continue;
                }
                break;
            }
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.to_owned(), value.trim().to_owned()));
            }
        }
        Self(fields)
    }

    /// The field's value; names compare without case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Names of the packages in a relationship field, without versions and alternatives' bars.
    pub fn names(&self, field: &str) -> Vec<String> {
        let name = |s: &str| {
            s.split(['(', '[', '<', ':', ' ', '\n']).next().unwrap_or_default().trim().to_owned()
        };
        self.get(field)
            .map(|v| {
                v.split([',', '|']).map(|s| name(s.trim())).filter(|s| !s.is_empty()).collect()
            })
            .unwrap_or_default()
    }

    /// Name and value of every field.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}
