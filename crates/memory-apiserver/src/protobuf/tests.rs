//! A body of kubectl, and bodies that are refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The bytes that `kubectl create` sends for a config map `c1` with `a: b`.
const CONFIG_MAP: &[u8] =
    b"k8s\0\n\x0f\n\x02v1\x12\x09ConfigMap\x12\x1c\n\x12\n\x02c1\x12\0\x1a\0\"\0*\x002\x008\0B\0\
\x12\x06\n\x01a\x12\x01b\x1a\0\"\0";

#[test]
fn a_body_of_kubectl_is_read() {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c1" }, "data": { "a": "b" },
    });
    assert_eq!(decode(CONFIG_MAP), Ok(object));
}

#[test]
fn other_kinds_and_other_bytes_are_refused() {
    let mut pod = b"k8s\0\n\x09\n\x02v1\x12\x03Pod".to_vec();
    pod.extend(b"\x12\0");
    let unknown = Refused::UnknownKind { api_version: "v1".to_owned(), kind: "Pod".to_owned() };
    assert_eq!(decode(&pod), Err(unknown));
    for body in [&b""[..], b"{}", b"k8s", &CONFIG_MAP[4..]] {
        assert!(matches!(decode(body), Err(Refused::Malformed(_))), "{body:?}");
    }
}

#[tokio::test]
async fn other_kinds_are_answered_with_415() {
    let server = crate::ApiServer::new();
    let mut pod = b"k8s\0\n\x09\n\x02v1\x12\x03Pod".to_vec();
    pod.extend(b"\x12\0");
    let request = http::Request::post("/api/v1/namespaces/default/pods").header("content-type", PROTOBUF);
    let answer = server.client().send(request.body(pod.into()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 415);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(at in 4..CONFIG_MAP.len(), byte: u8, cut in 4..CONFIG_MAP.len()) {
        let mut body = CONFIG_MAP.to_vec();
        body[at] = byte;
        body.truncate(cut.max(at));
        if let Ok(object) = decode(&body) {
            prop_assert!(object.is_object());
        }
    }
}
