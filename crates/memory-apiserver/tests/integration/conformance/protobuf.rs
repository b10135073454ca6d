//! Requests in protobuf, as kubectl sends them for built-in kinds.
//!
//! `tests/data/kube-apiserver/protobuf.json` holds objects and the protobuf that a real API server makes of them.
//! `UPDATE_PROTOBUF=1 tests/e2e.sh mean_what_their_json_means` records it again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use super::answer::text;
use super::server::Server;

on_every_server![
    bodies_mean_what_their_json_means,
    updates_may_be_in_protobuf,
    deletions_may_be_in_protobuf,
    answers_are_in_json_where_it_is_accepted,
    bytes_that_are_no_protobuf_are_refused,
    openapi_v2_is_served_in_both_forms,
];

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON: &str = "application/json";

/// The fields of an object that each request sets anew.
fn without_what_varies(mut object: Value) -> Value {
    for field in ["uid", "creationTimestamp", "managedFields", "resourceVersion"] {
        object["metadata"].as_object_mut().map(|metadata| metadata.remove(field));
    }
    object
}

async fn bodies_mean_what_their_json_means(server: &Server) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kube-apiserver/protobuf.json");
    let mut cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let is_real = std::thread::current().name().is_some_and(|name| name.contains("::real::"));
    let is_recording = is_real && std::env::var_os("UPDATE_PROTOBUF").is_some();
    let mut differing = Vec::new();
    for case in &mut cases {
        let path = format!("{}?dryRun=All", text(case, "/path"));
        let object = case["object"].to_string();
        let post = async |media_type: &str, accepted: &str, body: Vec<u8>| {
            let headers = [("content-type", media_type), ("accept", accepted)];
            server.http(Method::POST, &path, &headers, body).await
        };
        if is_recording {
            let answer = post(JSON, PROTOBUF, object.clone().into_bytes()).await;
            assert_eq!(answer.code, 201, "{answer:?}");
            case["protobuf"] = json!(STANDARD.encode(&answer.body));
        }
        let expected = without_what_varies(post(JSON, JSON, object.into_bytes()).await.created());
        let body = STANDARD.decode(text(case, "/protobuf")).unwrap();
        let answer = post(PROTOBUF, JSON, body).await;
        if answer.code != 201 || without_what_varies(answer.json()) != expected {
            differing.push(format!("{expected}\n  but {answer:?}"));
        }
    }
    if is_recording {
        let cases: Vec<_> = cases.iter().map(ToString::to_string).collect();
        std::fs::write(file, format!("[\n{}\n]\n", cases.join(",\n"))).unwrap();
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// A field of a message that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short field");
    assert!(length < 0x80, "a field whose length takes one byte");
    [&[number << 3 | 2, length], bytes].concat()
}

/// The body for an object of a kind.
fn body(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &type_meta), field(2, object)].concat()
}

/// The body for a config map of a name with one key.
fn config_map(name: &str, key: &str, value: &str) -> Vec<u8> {
    let metadata = field(1, &field(1, name.as_bytes()));
    let data = field(2, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    body("v1", "ConfigMap", &[metadata, data].concat())
}

async fn updates_may_be_in_protobuf(server: &Server) {
    let maps = server.config_maps().await;
    let headers = [("content-type", PROTOBUF)];
    let made = server.http(Method::POST, &maps.path, &headers, config_map("a", "k", "1")).await.created();
    assert_eq!(made["data"], json!({ "k": "1" }));
    let put = server.http(Method::PUT, &maps.path_of("a"), &headers, config_map("a", "k", "2")).await.ok();
    assert_eq!(put["data"], json!({ "k": "2" }));
    assert_eq!(maps.get("a").await.ok(), put);
    let wrong = server.http(Method::PUT, &maps.path_of("a"), &headers, config_map("b", "k", "2")).await;
    wrong.refused(400, "BadRequest");
}

async fn deletions_may_be_in_protobuf(server: &Server) {
    let maps = server.config_maps().await;
    let made = maps.made("a", json!({})).await;
    let delete = async |options: Vec<u8>| {
        let headers = [("content-type", PROTOBUF)];
        server.http(Method::DELETE, &maps.path_of("a"), &headers, body("v1", "DeleteOptions", &options)).await
    };
    let of_uid = |uid: &str| field(2, &field(1, uid.as_bytes()));
    delete(of_uid("another")).await.refused(409, "Conflict");
    delete(field(4, b"Sometimes")).await.refused(422, "Invalid");
    delete(field(5, b"All")).await.ok();
    maps.get("a").await.ok();
    delete([of_uid(text(&made, "/metadata/uid")), field(4, b"Orphan")].concat()).await.ok();
}

async fn answers_are_in_json_where_it_is_accepted(server: &Server) {
    let maps = server.config_maps().await;
    let headers = [("content-type", PROTOBUF), ("accept", "application/json")];
    let answer = server.http(Method::POST, &maps.path, &headers, config_map("a", "k", "1")).await;
    assert_eq!((answer.code, answer.header("content-type").as_str()), (201, JSON), "{answer:?}");
}

async fn bytes_that_are_no_protobuf_are_refused(server: &Server) {
    let maps = server.config_maps().await;
    let whole = config_map("a", "k", "1");
    for (bytes, code) in [(&b"{}"[..], 400), (&whole[..whole.len() - 1], 400), (&whole[4..], 400)] {
        let headers = [("content-type", PROTOBUF)];
        let answer = server.http(Method::POST, &maps.path, &headers, bytes.to_vec()).await;
        assert_eq!(answer.code, code, "{answer:?}");
        answer.refused(400, "BadRequest");
    }
    maps.get("a").await.refused(404, "NotFound");
}

/// kubectl asks for it in protobuf if the documents of v3 do not have a kind.
async fn openapi_v2_is_served_in_both_forms(server: &Server) {
    assert_eq!(server.get("/openapi/v2").await.ok()["swagger"], "2.0");
    let accepted = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = server.http(Method::GET, "/openapi/v2", &[("accept", accepted)], "").await;
    assert_eq!(answer.code, 200);
    let media_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    assert_eq!(answer.header("content-type"), media_type);
    // Field 1, three bytes: the version of the format.
    assert_eq!(answer.body[..5], *b"\x0a\x032.0");
}
