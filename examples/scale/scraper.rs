//! Scrapes `/metrics` of the measured process, as Prometheus does but more often.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// Time between the starts of two scrapes.
const INTERVAL: Duration = Duration::from_millis(100);

/// A thread that scrapes until it is stopped.
pub(crate) struct Scraper {
    switches: Arc<Switches>,
    thread: JoinHandle<anyhow::Result<Vec<f64>>>,
}

#[derive(Default)]
struct Switches {
    paused: AtomicBool,
    stopped: AtomicBool,
}

impl Scraper {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let switches = Arc::new(Switches::default());
        let of_thread = Arc::clone(&switches);
        Self { switches, thread: thread::spawn(move || run(address, &of_thread)) }
    }

    /// Pauses, or goes on.
    pub(crate) fn pause(&self, pause: bool) {
        self.switches.paused.store(pause, Ordering::Relaxed);
    }

    /// Stops. Returns the microseconds of each scrape.
    pub(crate) fn stop(self) -> anyhow::Result<Vec<f64>> {
        self.switches.stopped.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn run(address: SocketAddr, switches: &Switches) -> anyhow::Result<Vec<f64>> {
    let mut micros = Vec::new();
    while !switches.stopped.load(Ordering::Relaxed) {
        let started = Instant::now();
        if !switches.paused.load(Ordering::Relaxed) {
            scrape(address).context("scraping /metrics")?;
            micros.push(started.elapsed().as_secs_f64() * 1e6);
        }
        thread::sleep(INTERVAL.saturating_sub(started.elapsed()));
    }
    Ok(micros)
}

fn scrape(address: SocketAddr) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(address)?;
    write!(connection, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let head = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
    ensure!(head.split(' ').nth(1) == Some("200"), "the answer is {head:?}");
    Ok(())
}
