//! The webhook client against a real HTTP server.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use glyph_worker::webhook::{
    ANSWER_BYTES_MAX, WebhookClient, WebhookError, WebhookRequest, WebhookSecret, WebhookSettings,
};
use glyph_workflow_engine::config::{HeaderText, SecretName};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use uuid::Uuid;
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path},
};

const SECRET: &str = "a secret of the tests";

fn settings(hosts: &[&str]) -> WebhookSettings {
    WebhookSettings {
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        allow_private: true,
        secret: Some(WebhookSecret::new(SECRET).unwrap()),
        secrets_dir: None,
    }
}

/// A server that gives this response to every POST, and a client that may call it.
async fn answering(answer: ResponseTemplate) -> (MockServer, WebhookClient) {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(answer)
        .mount(&server)
        .await;
    let client = WebhookClient::new(settings(&[&server.address().to_string()])).unwrap();
    (server, client)
}

async fn call(client: &WebhookClient, url: &str) -> Result<Value, WebhookError> {
    let body = json!({"a": 1});
    let request = WebhookRequest {
        id: Uuid::from_u128(7),
        url,
        headers: &BTreeMap::from([("X-Own".to_owned(), HeaderText::Plain("yes".to_owned()))]),
        timeout: Duration::from_secs(10),
        body: &body,
    };
    client.call(request).await
}

fn header<'r>(request: &'r Request, name: &str) -> &'r str {
    request.headers[name].to_str().unwrap()
}

#[tokio::test]
async fn a_call_is_signed_and_its_answer_is_json() {
    let answer = ResponseTemplate::new(200).set_body_json(json!({"label": "b"}));
    let (server, client) = answering(answer).await;
    let answer = call(&client, &format!("{}/x?y=z", server.uri()))
        .await
        .unwrap();
    assert_eq!(answer, json!({"label": "b"}));

    let requests = server.received_requests().await.unwrap();
    let [request] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    assert_eq!(
        (request.url.path(), request.url.query()),
        ("/x", Some("y=z"))
    );
    assert_eq!(request.body, br#"{"a":1}"#);
    assert_eq!(header(request, "x-own"), "yes");
    assert_eq!(header(request, "content-type"), "application/json");
    let id = Uuid::from_u128(7).to_string();
    assert_eq!(header(request, "idempotency-key"), id);
    assert_eq!(header(request, "webhook-id"), id);
    let timestamp: i64 = header(request, "webhook-timestamp").parse().unwrap();
    assert!((chrono::Utc::now().timestamp() - timestamp).abs() < 60);

    // A receiver's check: its own MAC over the received bytes.
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&request.body);
    let sum = STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(header(request, "webhook-signature"), format!("v1,{sum}"));
}

#[tokio::test]
async fn an_empty_answer_is_null_and_what_is_no_json_fails_for_good() {
    let (server, client) = answering(ResponseTemplate::new(204)).await;
    assert_eq!(call(&client, &server.uri()).await.unwrap(), Value::Null);

    for body in ["ok", "{\"a\":\"\\u0000\"}"] {
        let answer = ResponseTemplate::new(200).set_body_string(body);
        let (server, client) = answering(answer).await;
        let error = call(&client, &server.uri()).await.unwrap_err();
        assert!(error.is_final(), "{error}");
    }
}

#[tokio::test]
async fn statuses_say_whether_to_try_again() {
    for (status, is_final) in [
        (400, true),
        (404, true),
        (410, true),
        (408, false),
        (425, false),
        (429, false),
        (500, false),
        (503, false),
    ] {
        let answer = ResponseTemplate::new(status).insert_header("retry-after", "7");
        let (server, client) = answering(answer).await;
        let error = call(&client, &server.uri()).await.unwrap_err();
        assert_eq!(error.is_final(), is_final, "{status}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }
}

/// A server that answers a call twice, the second time when the next call over the same connection
/// has come.
#[tokio::test]
async fn the_second_answer_to_a_call_is_not_taken_for_that_of_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                for body in ["1", "2", "3"] {
                    if stream.read(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let client = WebhookClient::new(settings(&[&address.to_string()])).unwrap();
    for _ in 0..5 {
        let answer = call(&client, &format!("http://{address}/")).await.unwrap();
        assert_eq!(answer, json!(1), "the answer to a call before");
    }
    server.abort();
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = MockServer::start().await;
    let there = format!("{}/there", server.uri());
    Mock::given(path("/here"))
        .respond_with(ResponseTemplate::new(307).insert_header("location", there.as_str()))
        .mount(&server)
        .await;
    let client = WebhookClient::new(settings(&[&server.address().to_string()])).unwrap();
    let error = call(&client, &format!("{}/here", server.uri()))
        .await
        .unwrap_err();
    assert!(error.is_final());
    assert!(
        error
            .to_string()
            .contains("307; redirects are not followed"),
        "{error}"
    );
    assert_eq!(server.received_requests().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_is_read_up_to_its_bound() {
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let answer = ResponseTemplate::new(200).set_body_string(text(ANSWER_BYTES_MAX));
    let (server, client) = answering(answer).await;
    assert!(call(&client, &server.uri()).await.is_ok());
    let answer = ResponseTemplate::new(200).set_body_string(text(ANSWER_BYTES_MAX + 1));
    let (server, client) = answering(answer).await;
    let error = call(&client, &server.uri()).await.unwrap_err();
    assert!(
        error.is_final() && error.to_string().contains("more than 1048576 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_slow_answer_is_given_up() {
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_mins(1));
    let (server, client) = answering(slow).await;
    let body = Value::Null;
    let request = WebhookRequest {
        id: Uuid::nil(),
        url: &server.uri(),
        headers: &BTreeMap::new(),
        timeout: Duration::from_millis(50),
        body: &body,
    };
    let error = client.call(request).await.unwrap_err();
    assert!(
        matches!(error, WebhookError::Timeout { .. }) && !error.is_final(),
        "{error}"
    );
}

#[tokio::test]
async fn only_listed_hosts_are_called() {
    let (server, _) = answering(ResponseTemplate::new(200)).await;
    let nothing = WebhookClient::new(WebhookSettings::default()).unwrap();
    let error = call(&nothing, &server.uri()).await.unwrap_err().to_string();
    assert!(error.contains("GLYPH_WEBHOOK_HOSTS"), "{error}");
    let other = WebhookClient::new(settings(&["a.org", "127.0.0.1"])).unwrap();
    let error = call(&other, &server.uri()).await.unwrap_err();
    assert!(matches!(error, WebhookError::NotAllowed { .. }), "{error}");
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn private_addresses_need_to_be_allowed_however_they_are_written() {
    let (server, _) = answering(ResponseTemplate::new(200)).await;
    let port = server.address().port();
    let mapped = format!("[::ffff:127.0.0.1]:{port}");
    let (literal, name) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let listed = [literal.as_str(), &name, &mapped];
    let client = WebhookClient::new(WebhookSettings {
        allow_private: false,
        ..settings(&listed)
    })
    .unwrap();
    // The last is the first in octal: the address that is checked is the one that is connected to.
    for host in [&literal, &name, &mapped, &format!("0177.1:{port}")] {
        let error = call(&client, &format!("http://{host}/")).await.unwrap_err();
        assert!(error.is_final(), "{error}");
        let refused = matches!(error, WebhookError::AddressRefused { never: false, .. });
        assert!(refused, "{host}: {error}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());

    let client = WebhookClient::new(settings(&listed)).unwrap();
    for host in [&literal, &name] {
        call(&client, &format!("http://{host}/")).await.unwrap();
    }
    // No setting allows the address of a metadata service.
    let client = WebhookClient::new(settings(&["169.254.169.254:80"])).unwrap();
    let error = call(&client, "http://169.254.169.254/latest")
        .await
        .unwrap_err();
    assert!(
        matches!(error, WebhookError::AddressRefused { never: true, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn nothing_listens_and_bad_requests_differ_in_whether_they_are_final() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let client = WebhookClient::new(settings(&[&address])).unwrap();
    let error = call(&client, &format!("http://{address}/?token=hidden"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, WebhookError::Connection { .. }) && !error.is_final(),
        "{error}"
    );
    assert!(!error.to_string().contains("hidden"), "{error}");
    for url in ["ftp://a.org", "https://u:p@a.org", "nonsense"] {
        assert!(call(&client, url).await.unwrap_err().is_final(), "{url}");
    }
    let body = Value::Null;
    let (url, headers) = (
        format!("http://{address}"),
        BTreeMap::from([("Host".to_owned(), HeaderText::Plain("b".to_owned()))]),
    );
    let request = WebhookRequest {
        id: Uuid::nil(),
        url: &url,
        headers: &headers,
        timeout: Duration::from_secs(1),
        body: &body,
    };
    assert!(client.call(request).await.unwrap_err().is_final());
}

#[tokio::test]
async fn a_header_takes_a_secret_from_the_settings_by_its_name() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .respond_with(ResponseTemplate::new(204))
        .mount(&server)
        .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("MODELS"), "Bearer one\n").unwrap();
    let client = WebhookClient::new(WebhookSettings {
        secrets_dir: Some(folder.path().to_owned()),
        ..settings(&[&server.address().to_string()])
    });
    let client = client.unwrap();
    let ask = async |name: &str| {
        let secret = name.to_owned();
        let headers = BTreeMap::from([(
            "Authorization".to_owned(),
            HeaderText::Secret(SecretName { secret }),
        )]);
        let request = WebhookRequest {
            id: Uuid::nil(),
            url: &server.uri(),
            headers: &headers,
            timeout: Duration::from_secs(10),
            body: &Value::Null,
        };
        client.call(request).await
    };
    ask("MODELS").await.unwrap();
    // A changed secret counts at once.
    std::fs::write(folder.path().join("MODELS"), "Bearer two").unwrap();
    ask("MODELS").await.unwrap();
    let requests = server.received_requests().await.unwrap();
    let sent: Vec<_> = requests
        .iter()
        .map(|r| r.headers["authorization"].clone())
        .collect();
    assert_eq!(sent, ["Bearer one", "Bearer two"]);
    for missing in ["NONE", "../MODELS", ""] {
        let error = ask(missing).await.unwrap_err();
        assert!(
            error.is_final() && !error.to_string().contains("Bearer"),
            "{error}"
        );
    }
}
