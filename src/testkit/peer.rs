//! A Prometheus server run beside ours.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server on a data directory, on a port of its own on loopback; killed with SIGKILL when dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Starts `program` on `data`, with its configuration and log in `scratch`, and waits until it is ready. It scrapes
    /// nothing and keeps everything.
    ///
    /// # Panics
    /// If it cannot be started, or does not get ready within a minute.
    pub fn start(program: &str, data: &Path, scratch: &Path, arguments: &[&str]) -> Self {
        Self::start_with("", program, data, scratch, arguments)
    }

    /// As [`Prometheus::start`], with more in its configuration.
    ///
    /// # Panics
    /// As [`Prometheus::start`].
    pub fn start_with(
        configuration: &str,
        program: &str,
        data: &Path,
        scratch: &Path,
        arguments: &[&str],
    ) -> Self {
        let config = scratch.join("prometheus.yml");
        let text = format!("global: {{scrape_interval: 1h}}\n{configuration}");
        std::fs::write(&config, text).expect("the configuration can be written");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let log = scratch.join("peer.log");
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--storage.tsdb.retention.time=100y")
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("the log can be written"))
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        let peer = Self { process, port, log };
        for _ in 0..600 {
            if peer.get("/-/ready").is_some_and(|answer| answer.starts_with("HTTP/1.0 200")) {
                return peer;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{program} does not get ready: {}", peer.log());
    }

    /// The answer to a request, head and body, if there is one.
    pub fn ask(&self, request: &[u8]) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(request).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// The answer to a GET, head and body, if there is one.
    pub fn get(&self, path: &str) -> Option<String> {
        self.ask(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
    }

    /// The body of the answer to a GET.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn body(&self, path: &str) -> String {
        let answer = self.get(path).unwrap_or_else(|| panic!("no answer to {path}"));
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no body: {answer}"));
        body.to_owned()
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// SIGKILL; it is gone afterwards.
    pub fn kill(mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
