//! What is refused, and in which words: sessions without a primary, configurations that make no sense, askers that misbehave.

use super::*;

fn refusal(text: &str) -> (String, String) {
    match settings::read("router.toml", text.as_bytes(), &|_| None) {
        Ok(_) => panic!("this was taken: {text}"),
        Err(error) => (error::chain(&error), error.hint().to_owned()),
    }
}

const GOOD: &str = "[service.main]\nkind = \"redis\"\nnodes = [\"10.0.0.1:6379\"]\n\
    [[endpoint]]\nname = \"redis primary\"\nservice = \"main\"\nto = \"primary\"\nlisten = \"127.0.0.1:6379\"\n";

#[test]
fn wrong_input_gets_one_sentence_with_its_place_and_a_remedy() {
    let cases = [
        (
            "service = \"main\"",
            "service = \"mian\"",
            "router.toml:6: endpoint \"redis primary\": there is no [service.mian], only \"main\"",
        ),
        (
            "to = \"primary\"",
            "to = \"leader\"",
            "router.toml:7: `to`: unknown variant `leader`, expected one of `primary`, `replicas`, `any`",
        ),
        (
            "listen = \"127.0.0.1:6379\"",
            "listen = \"6379\"",
            "router.toml:8: `listen`: invalid socket address syntax",
        ),
        ("10.0.0.1:6379", "10.0.0.1", "router.toml:3: \"10.0.0.1\" is not a host and a port"),
        (
            "nodes = [\"10.0.0.1:6379\"]\n",
            "",
            "router.toml:1: service \"main\" has no nodes, and there is no [consul]",
        ),
        ("nodes =", "nodse =", "router.toml:3: unknown field `nodse`"),
        (
            "kind = \"redis\"",
            "kind = \"redis\"\nproof = \"sql\"",
            "router.toml:3: a service of kind \"redis\" can't be proven in this way",
        ),
        (
            "kind = \"redis\"",
            "kind = \"redis\"\ntls = \"router\"",
            "router.toml:3: tls needs `ca`: whom to trust",
        ),
        (
            "kind = \"redis\"",
            "kind = \"redis\"\nca = \"/nowhere/ca.pem\"",
            "router.toml:3: reading /nowhere/ca.pem: No such file or directory",
        ),
        (
            "[service.main]",
            "[consul]\nservers = [\"10.0.0.1\"]\n[service.main]",
            "router.toml:2: \"10.0.0.1\" is not an http:// or https:// URL with a host and a port",
        ),
        (
            "[service.main]",
            "[consul]\nservers = [\"https://10.0.0.1:8501\"]\n[service.main]",
            "router.toml:2: \"https://10.0.0.1:8501\" needs `ca`: whom to trust",
        ),
        (
            "[service.main]",
            "max_sessions = 0\n[service.main]",
            "router.toml:1: max_sessions 0 lets nobody in",
        ),
        (
            "kind = \"redis\"\nnodes = [\"10.0.0.1:6379\"]",
            "kind = \"postgres\"\nnodes = [\"10.0.0.1:5432\", \"10.0.0.2:5432\"]",
            "router.toml:7: endpoint \"redis primary\": which of 2 nodes is the primary can't be known without a proof",
        ),
    ];
    assert!(settings::read("router.toml", GOOD.as_bytes(), &|_| None).is_ok());
    for (good, bad, wanted) in cases {
        assert!(GOOD.contains(good), "{good}");
        let (sentence, hint) = refusal(&GOOD.replace(good, bad));
        assert!(sentence.starts_with(wanted), "{sentence}\nin place of\n{wanted}");
        assert!(!sentence.contains('\n') && !hint.is_empty(), "{sentence} / {hint}");
    }
    let (sentence, hint) = refusal("");
    assert_eq!(sentence, "router.toml:1: the file is empty");
    assert!(hint.contains("--example"), "{hint}");
}

#[test]
fn an_endpoint_is_there_once() {
    let endpoint = GOOD.split_once("[[").unwrap().1;
    let twice = format!("{GOOD}[[{endpoint}");
    assert!(refusal(&twice).0.ends_with("endpoint \"redis primary\" is there twice"));
    let other = format!("{GOOD}[[{}", endpoint.replace("redis primary", "other"));
    assert!(refusal(&other).0.ends_with("endpoint \"other\" listens where \"redis primary\" does"));
}

#[test]
fn the_environment_has_the_last_word_and_is_refused_as_well() {
    let read = |name: &'static str, value: &'static str| {
        let environment = move |asked: &str| (asked == name).then(|| value.to_owned());
        settings::read("router.toml", GOOD.as_bytes(), &environment)
    };
    let settings = read("BALLAST_MAIN_NODES", "10.0.0.8:1, cache.example:2").unwrap();
    let wanted = ["10.0.0.8:1", "cache.example:2"].map(str::to_owned).to_vec();
    assert_eq!(settings.services[0].source, Source::Nodes(wanted));
    let wrong = [
        ("BALLAST_MAIN_NODES", "10.0.0.8", "\"10.0.0.8\" is not a host and a port"),
        ("BALLAST_AVAILABILITY", "quick", "\"quick\" is none of fast, normal, wide"),
        ("BALLAST_WAIT_MS", "1s", "\"1s\" is not a number"),
        ("BALLAST_STATUS", "8520", "\"8520\" is not an address and a port"),
    ];
    for (name, value, reason) in wrong {
        let error = read(name, value).err().unwrap();
        assert_eq!(error.to_string(), format!("the environment's {name}: {reason}"));
    }
}

#[test]
fn the_example_names_every_key_and_reads_once_its_files_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let contents = crate::fixture::Site::new().contents("n1", "consul-server");
    let files = [
        ("ca.pem", contents.ca_pem.as_str()),
        ("cert.pem", &contents.cert_pem),
        ("key.pem", &contents.key_pem),
        ("consul-token", "token\n"),
        ("password", "secret\n"),
    ];
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let place = directory.path().display().to_string();
    let text = EXAMPLE.replace("/run/ballast", &place);
    let settings = settings::read("example.toml", text.as_bytes(), &|_| None);
    let settings = settings.unwrap_or_else(|e| panic!("{}", error::chain(&e)));
    assert_eq!(settings.endpoints.len(), 2);
    // What is commented out must read as well, but for what excludes another.
    let all = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(key) if key.contains(" = ") => key,
        _ => line,
    });
    let all: Vec<&str> = all.collect();
    let read = settings::read("example.toml", all.join("\n").as_bytes(), &|_| None);
    assert!(read.is_ok(), "{}", read.err().map(|e| error::chain(&e)).unwrap_or_default());
    let broken = text.replacen("ca.pem", "key.pem", 1);
    let error = settings::read("example.toml", broken.as_bytes(), &|_| None).err().unwrap();
    assert!(
        error::chain(&error)
            .contains("key.pem does not hold what it should: there is no certificate")
    );
}

#[tokio::test]
async fn without_a_primary_redis_clients_are_told_to_try_again() {
    let a = Node::start("a", Word::Replica).await;
    let router = Router::of(&[&a]).await;
    let begun = Instant::now();
    let answer = say(&mut router.connect(PRIMARY).await, "PING\r\n").await.unwrap();
    let wanted =
        format!("-LOADING redis primary: no node is the primary: {} is a replica\r\n", a.address);
    assert_eq!(answer, wanted);
    let waited = begun.elapsed();
    assert!((1_400..3_000).contains(&waited.as_millis()), "after {waited:?}");
}

#[tokio::test]
async fn without_a_primary_postgresql_clients_are_told_to_try_again_encrypted_or_not() {
    let text = "wait_ms = 300\n[service.main]\nkind = \"postgres\"\nnodes = [\"127.0.0.1:1\"]\npatroni_port = 1\n\
        [[endpoint]]\nname = \"postgres primary\"\nservice = \"main\"\nto = \"primary\"\nlisten = \"127.0.0.1:0\"\n";
    let router = Router::start(text).await;
    for encrypted in [false, true] {
        let mut client = router.connect(0).await;
        if encrypted {
            client.write_all(&reach::SSL_REQUEST).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'N');
        }
        // As any client would read it: tokio-postgres is one.
        let mut config = tokio_postgres::Config::new();
        config.user("app").ssl_mode(tokio_postgres::config::SslMode::Disable);
        let refused = config.connect_raw(client, tokio_postgres::NoTls).await.err().unwrap();
        let error = refused.as_db_error().unwrap_or_else(|| panic!("{refused}"));
        assert_eq!(error.code(), &tokio_postgres::error::SqlState::CANNOT_CONNECT_NOW);
        assert!(error.message().starts_with("postgres primary: no node is the primary"), "{error}");
    }
}

#[tokio::test]
async fn a_consul_that_is_not_there_is_said_once_and_asked_once_a_second() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        // It takes connections and ends them.
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    let text = format!(
        "wait_ms = 200\n[consul]\nservers = [\"http://{address}\"]\n{}",
        GOOD.replace("nodes = [\"10.0.0.1:6379\"]\n", "").replace("127.0.0.1:6379", "127.0.0.1:0")
    );
    let router = Router::start(&text).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let asked = asked.load(Ordering::Relaxed);
    assert!((2..=4).contains(&asked), "asked {asked} times in 2.5 s");
    let answer = say(&mut router.connect(0).await, "PING\r\n").await.unwrap();
    let wanted = format!("-LOADING redis primary: {address}: asking Consul for GET");
    assert!(answer.starts_with(&wanted), "{answer}");
}

#[tokio::test]
async fn an_asker_with_a_megabyte_of_headers_or_none_at_all_keeps_nobody_from_the_state() {
    let a = Node::start("a", Word::Primary).await;
    let router = Router::of(&[&a]).await;
    assert_eq!(who(&mut router.connect(PRIMARY).await).await.unwrap(), "a");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shown = router.running.clone();
    tokio::spawn(serve::serve_with(listener, 16, move |path| shown.show(path)));
    // One that says a byte a minute.
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"G").await.unwrap();
    let mut large = TcpStream::connect(address).await.unwrap();
    let mut request = b"GET /status HTTP/1.1\r\nX-Large: ".to_vec();
    request.resize(1 << 20, b'x');
    // The answer may come, and the connection end, before everything was sent.
    let _ = large.write_all(&request).await;
    let mut answer = Vec::new();
    let _ = large.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
    let reply = crate::http::get(&format!("http://{address}/status")).await.unwrap();
    let state: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let of = &state["endpoints"][PRIMARY];
    assert_eq!(of["primary"], a.address.to_string());
    assert_eq!(of["nodes"][0]["is"], "primary");
    assert_eq!(of["opened"], 1);
    let reply = crate::http::get(&format!("http://{address}/metrics")).await.unwrap();
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains("ballast_router_primary{endpoint=\"redis primary\"} 1\n"), "{text}");
}

#[tokio::test]
async fn an_endpoint_whose_port_is_taken_says_where() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
    let address = taken.local_addr().unwrap();
    let text = GOOD.replace("127.0.0.1:6379", &address.to_string());
    let settings = settings::read("router.toml", text.as_bytes(), &|_| None).ok().unwrap();
    let error = super::run(settings, std::future::pending()).await.unwrap_err();
    assert!(error::chain(&error).starts_with(&format!("listening on {address}: ")));
}
