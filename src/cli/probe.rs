//! `sandbox-manager probe URL`: sends one HTTP request, for checks in a place that has no other program for it.
//!
//! The image has no shell. The chart's `helm test` runs this command in a pod.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use super::error::CliError;

/// Time for the connection, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest status line that is read.
const LONGEST_LINE: u64 = 1024;

pub(super) fn command() -> Command {
    Command::new("probe").about("Send one GET request, and fail unless the answer is 2xx").arg(
        Arg::new("url").value_name("URL").required(true).help("Such as http://sandbox-manager:8080/metrics"),
    )
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), CliError> {
    let url = matches.get_one::<String>("url").map(String::as_str).unwrap_or_default();
    let status = ask(url).map_err(|problem| CliError::Probe { url: url.to_owned(), problem })?;
    super::output::print(&format!("{url}: {status}\n"))
}

/// Returns the status line of the answer if the status is 2xx, otherwise what is wrong.
fn ask(url: &str) -> Result<String, String> {
    let rest = url.strip_prefix("http://").ok_or("expected a URL that begins with http://")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let failed = |error: std::io::Error| error.to_string();
    let mut connection = connect(&address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    let mut limited = connection.take(LONGEST_LINE);
    let mut part = [0; 256];
    while !answer.contains(&b'\n') {
        let length = limited.read(&mut part).map_err(failed)?;
        if length == 0 {
            return Err("the answer is not HTTP".to_owned());
        }
        answer.extend_from_slice(&part[..length]);
    }
    let text = String::from_utf8_lossy(&answer);
    let line = text.lines().next().unwrap_or_default();
    let (version, status) = line.split_once(' ').unwrap_or((line, ""));
    if !version.starts_with("HTTP/") {
        return Err("the answer is not HTTP".to_owned());
    }
    if status.starts_with('2') { Ok(status.to_owned()) } else { Err(status.to_owned()) }
}

/// Connects to the first address of the name that answers.
fn connect(address: &str) -> Result<TcpStream, String> {
    let mut problem = "the name has no address".to_owned();
    for address in address.to_socket_addrs().map_err(|error| error.to_string())? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(connection) => {
                let limited = connection
                    .set_read_timeout(Some(TIMEOUT))
                    .and_then(|()| connection.set_write_timeout(Some(TIMEOUT)));
                return limited.map(|()| connection).map_err(|error| error.to_string());
            }
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A server that answers one connection with these bytes, and returns the request.
    fn server(answer: &'static [u8]) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let length = connection.read(&mut request).unwrap();
            connection.write_all(answer).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        };
        (format!("http://{address}"), std::thread::spawn(serve))
    }

    #[test]
    fn z2_an_answer_of_2xx_is_a_success_and_any_other_a_failure_with_its_status() {
        let (url, request) = server(b"HTTP/1.1 200 OK\r\n\r\nok");
        assert_eq!(ask(&format!("{url}/a/b?c")).unwrap(), "200 OK");
        let request = request.join().unwrap();
        let host = url.trim_start_matches("http://");
        assert!(request.starts_with(&format!("GET /a/b?c HTTP/1.1\r\nHost: {host}\r\n")), "{request}");
        let (url, _) = server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(ask(&url).unwrap_err(), "503 Service Unavailable");
    }

    #[test]
    fn z2_what_is_no_http_is_a_failure() {
        for answer in [&b"SSH-2.0\r\n"[..], b"", b"HTTP/1.1 200"] {
            let (url, _) = server(answer);
            assert_eq!(ask(&url).unwrap_err(), "the answer is not HTTP");
        }
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(ask(&format!("http://{closed}")).unwrap_err().contains("refused"));
        assert!(ask("https://localhost/").unwrap_err().contains("http://"));
    }
}
