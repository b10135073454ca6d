//! Sends the requests of an informer: lists a page, opens a watch, reads its lines. This module handles HTTP
//! and JSON framing and does not use the store.
//!
//! `kube::runtime::watcher` hides bookmarks and versions, fails a whole page for one bad object and notices a
//! dead connection only after five minutes. So this module sends the requests through [`kube::Client`]
//! itself. Every request has a deadline ([`RESPONSE_TIMEOUT`], [`SILENCE_TIMEOUT`]) and a size limit
//! ([`MAX_LINE`], [`MAX_PAGE`]).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, RETRY_AFTER};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::{ListParams, Request, WatchParams};
use kube::client::Body;
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::error::WatchError;
use crate::error_text::error_text;
use crate::kind::CacheObject;
use crate::object::{ObjectKey, parse_version};

/// How long the response headers may take (behaviour E8).
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a watch may be silent. Bookmarks are due every 60 s, plus or minus a second. A new connection
/// also takes time to fail; with that time a dead peer is noticed within 90 s (E8).
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_secs(75);

/// Largest watch event that is read. etcd accepts objects of 1.5 MiB, the API server accepts bodies of 3 MB.
pub(crate) const MAX_LINE: usize = 16 << 20;

/// Largest list page that is read. A larger page is requested again with fewer objects.
pub(crate) const MAX_PAGE: usize = 256 << 20;

/// Largest error body that is read.
const MAX_STATUS: usize = 64 << 10;

/// Requests lists without specs and statuses. A server that cannot leave them out sends whole objects.
const METADATA_ONLY: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json";

/// How a request is sent.
#[derive(Clone, Copy)]
pub(crate) struct Sending {
    /// How long the first byte of the response may take.
    pub(crate) patience: Duration,
    /// Closes the connection after this request, so that the next request gets a new one.
    pub(crate) fresh: bool,
}

impl Default for Sending {
    fn default() -> Self {
        Self { patience: RESPONSE_TIMEOUT, fresh: false }
    }
}

/// What one informer requests: a collection, and a selection of its objects.
#[derive(Clone)]
pub(crate) struct ListWatch {
    client: kube::Client,
    path: String,
    label_selector: Option<String>,
    field_selector: Option<String>,
    /// The path at which discovery lists the resources of the kind's group and version.
    discovery_path: String,
    plural: String,
}

/// One page of a list.
pub(crate) struct Page {
    body: Bytes,
}

#[derive(Deserialize)]
pub(crate) struct PageContent<'a> {
    #[serde(default)]
    pub(crate) metadata: ListMeta,
    #[serde(borrow, default, deserialize_with = "null_as_empty")]
    pub(crate) items: Vec<&'a RawValue>,
}

/// kube-apiserver writes a list of the metadata of no objects as `null`.
fn null_as_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<&'de RawValue>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl PageContent<'_> {
    /// Returns the version of the list.
    pub(crate) fn version(&self) -> Option<u64> {
        self.metadata.resource_version.as_deref().and_then(parse_version)
    }
}

impl Page {
    pub(crate) fn content(&self) -> Result<PageContent<'_>, WatchError> {
        serde_json::from_slice(&self.body).map_err(|error| WatchError::Protocol(error.to_string()))
    }
}

impl ListWatch {
    /// Creates the requests for a kind, in one namespace if `namespace` is given.
    pub(crate) fn new<K: CacheObject>(
        client: &kube::Client,
        namespace: Option<&str>,
        label_selector: Option<String>,
        field_selector: Option<String>,
    ) -> Self {
        let (group, version) = (K::group(&()), K::version(&()));
        let discovery_path =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        Self {
            client: client.clone(),
            path: K::url_path(&(), namespace),
            label_selector,
            field_selector,
            discovery_path,
            plural: K::plural(&()).into_owned(),
        }
    }

    /// Lists one page from the quorum. `limit` 0 requests all objects at once.
    pub(crate) async fn list(
        &self,
        limit: u32,
        continue_token: Option<String>,
        how: Sending,
    ) -> Result<Page, WatchError> {
        let params = ListParams {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            limit: (limit > 0).then_some(limit),
            continue_token,
            ..ListParams::default()
        };
        let request = Request::new(self.path.as_str()).list(&params);
        Ok(Page { body: read(self.send(request, how).await?, MAX_PAGE).await? })
    }

    /// Lists the metadata of one page of objects from the quorum, or of the object of one key.
    pub(crate) async fn list_metadata(
        &self,
        limit: u32,
        continue_token: Option<String>,
        only: Option<&ObjectKey>,
    ) -> Result<Page, WatchError> {
        let mut fields: Vec<_> = self.field_selector.iter().cloned().collect();
        if let Some(ObjectKey { namespace, name }) = only {
            fields.push(format!("metadata.name={name}"));
            if !namespace.is_empty() {
                fields.push(format!("metadata.namespace={namespace}"));
            }
        }
        let params = ListParams {
            label_selector: self.label_selector.clone(),
            field_selector: (!fields.is_empty()).then(|| fields.join(",")),
            limit: Some(limit),
            continue_token,
            ..ListParams::default()
        };
        let mut request = Request::new(self.path.as_str()).list(&params);
        if let Ok(request) = &mut request {
            request.headers_mut().insert(ACCEPT, http::HeaderValue::from_static(METADATA_ONLY));
        }
        Ok(Page { body: read(self.send(request, Sending::default()).await?, MAX_PAGE).await? })
    }

    /// Returns true if discovery lists the kind.
    pub(crate) async fn is_served(&self) -> Result<bool, WatchError> {
        #[derive(Deserialize)]
        struct Resources {
            #[serde(default)]
            resources: Vec<ApiResource>,
        }
        #[derive(Deserialize)]
        struct ApiResource {
            name: String,
        }
        let request = http::Request::get(self.discovery_path.as_str()).body(Vec::new());
        let request = request.map_err(|error| WatchError::Protocol(error.to_string()))?;
        let body = match self.send(Ok(request), Sending { fresh: true, ..Sending::default() }).await {
            Ok(body) => read(body, MAX_PAGE).await?,
            Err(error) if error.code() == Some(404) => return Ok(false),
            Err(error) => return Err(error),
        };
        let listed: Resources =
            serde_json::from_slice(&body).map_err(|error| WatchError::Protocol(error.to_string()))?;
        Ok(listed.resources.iter().any(|resource| resource.name == self.plural))
    }

    /// Watches from a version on. `None` requests a streaming list: first every object, then a bookmark that
    /// ends the list, then changes. `lifetime` is how long the server should keep the watch open; with `None`
    /// the server decides.
    pub(crate) async fn watch(
        &self,
        version: Option<&str>,
        lifetime: Option<Duration>,
        how: Sending,
    ) -> Result<Lines, WatchError> {
        let params = WatchParams {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            timeout: lifetime.and_then(|lifetime| u32::try_from(lifetime.as_secs()).ok()),
            bookmarks: true,
            send_initial_events: version.is_none(),
        };
        // An empty version means "most recent", read from the quorum.
        let request = Request::new(self.path.as_str()).watch(&params, version.unwrap_or_default());
        Ok(Lines { body: self.send(request, how).await?, buffer: BytesMut::new(), scanned: 0 })
    }

    async fn send(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
        Sending { patience, fresh }: Sending,
    ) -> Result<Body, WatchError> {
        let mut request = request.map_err(|error| WatchError::Protocol(error_text(&error)))?;
        // API servers from 1.37 on compress each event separately, which this client cannot decode.
        request.headers_mut().insert(ACCEPT_ENCODING, http::HeaderValue::from_static("identity"));
        if fresh {
            request.headers_mut().insert(CONNECTION, http::HeaderValue::from_static("close"));
        }
        let response = timeout(patience, self.client.send(request.map(Body::from)))
            .await
            .map_err(|_| WatchError::ResponseTimeout(patience))?
            .map_err(|error| WatchError::Transport(error_text(&error)))?;
        if response.status().is_success() {
            Ok(response.into_body())
        } else {
            Err(read_status(response).await)
        }
    }
}

async fn read_status(response: http::Response<Body>) -> WatchError {
    let code = response.status().as_u16();
    let seconds =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = next_chunk(&mut body, SILENCE_TIMEOUT).await {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_STATUS {
            break;
        }
    }
    let mut status: Status = serde_json::from_slice(&text).unwrap_or_else(|_| {
        let message: String = String::from_utf8_lossy(&text).trim().chars().take(200).collect();
        Status::failure(&message, "")
    });
    status.code = code;
    WatchError::Status { status: status.boxed(), retry_after: seconds.map(Duration::from_secs) }
}

/// Reads a whole body.
async fn read(mut body: Body, limit: usize) -> Result<Bytes, WatchError> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut body, SILENCE_TIMEOUT).await? {
        if whole.len() + chunk.len() > limit {
            return Err(WatchError::TooLarge(limit));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

async fn next_chunk(body: &mut Body, patience: Duration) -> Result<Option<Bytes>, WatchError> {
    loop {
        let frame = timeout(patience, body.frame()).await.map_err(|_| WatchError::Silent(patience))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(WatchError::Transport(error_text(&error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The lines of an open watch.
pub(crate) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Length of the start of the buffer that contains no line end.
    scanned: usize,
}

impl Lines {
    /// Returns the next chunk of whole lines, at least one line; `None` at the clean end of the watch. After
    /// `patience` without a byte, returns [`WatchError::Silent`] and may be called again. Cancel safe.
    ///
    /// An incomplete last line is dropped, because its event is sent again when the watch is resumed.
    pub(crate) async fn next(&mut self, patience: Duration) -> Result<Option<Bytes>, WatchError> {
        loop {
            if let Some(end) = memchr::memrchr(b'\n', &self.buffer[self.scanned..]) {
                let lines = self.buffer.split_to(self.scanned + end + 1).freeze();
                self.scanned = self.buffer.len();
                return Ok(Some(lines));
            }
            self.scanned = self.buffer.len();
            if self.scanned > MAX_LINE {
                return Err(WatchError::TooLarge(MAX_LINE));
            }
            match next_chunk(&mut self.body, patience).await? {
                None => return Ok(None),
                Some(chunk) if self.buffer.is_empty() && chunk.last() == Some(&b'\n') => {
                    return Ok(Some(chunk));
                }
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
            }
        }
    }
}
