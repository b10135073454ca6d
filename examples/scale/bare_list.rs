//! The CPU time of receiving all sandboxes without reading them: the part of a sync that is not the cache's.

use anyhow::ensure;
use http::Request;
use http_body_util::BodyExt;
use kube::Resource;
use kube::client::Body;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::controller_manager::Connector;

use crate::process;
use crate::report::Report;

/// In the bookmark that ends a streaming list.
const END: &[u8] = b"k8s.io/initial-events-end";

/// More than the bookmark at the end has.
const LAST: usize = 4096;

/// Receives a streaming list, as the cache does, and reads only its last bytes, to know the end.
pub(crate) async fn measure(connector: &Connector, report: &mut Report) -> anyhow::Result<()> {
    let client = connector.client()?;
    // Opens the connection before the measurement.
    let _ = client.apiserver_version().await?;
    let path = Sandbox::url_path(&(), None);
    let query =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let before = process::cpu()?;
    let response = client.send(Request::get(format!("{path}?{query}")).body(Body::empty())?).await?;
    ensure!(response.status().is_success(), "a streaming list is answered with {}", response.status());
    let mut body = response.into_body();
    let mut last = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        last.extend_from_slice(&data[data.len().saturating_sub(LAST)..]);
        last.drain(..last.len().saturating_sub(LAST));
        // The server sends nothing after the bookmark, so a piece ends there.
        if last.ends_with(b"\n") && last.windows(END.len()).any(|bytes| bytes == END) {
            report.add("bare_list_cpu_s", process::cpu()?.saturating_sub(before).as_secs_f64(), 2);
            return Ok(());
        }
    }
    anyhow::bail!("the streaming list ended before its last bookmark")
}
