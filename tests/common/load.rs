//! A constant load from the internet's side: takes addresses, a site and a rate, gives for each client how many requests were
//! answered, over which leaf, and what became of the others. Used by `tests/lab/*.rs` as `#[path = "../common/load.rs"]`.
//!
//! Requests are sent by the clock, whether or not the one before was answered, up to a few at once: beyond that a slow machine
//! would see no load but a heap of connections, which the load balancer refuses to one source. Certificates are verified in
//! full. Nothing is tried again, but for the two cases in which a server cannot have taken a request: it never left the client,
//! as its connection was seen to be closed, or its stream was refused or lies beyond the last one of a GOAWAY (RFC 9113 §6.8
//! and §8.7). Both are counted by themselves.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::allow_attributes,
    missing_docs,
    reason = "each test crate uses its own part"
)]

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use infra::lab::Lab;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Idle connections that a client of HTTP/1.1 keeps. It takes them in turn, so each is idle for most of the time.
const IDLE: usize = 4;
/// Requests of one client that are under way at once, at most.
const UNDER_WAY: usize = 8;
/// How long one request may take with all that belongs to it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often one request may come back untouched.
const TRIES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Http1New,
    Http1Kept,
    Http2New,
    Http2Kept,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Http1New, Self::Http1Kept, Self::Http2New, Self::Http2Kept];

    fn is_http2(self) -> bool {
        matches!(self, Self::Http2New | Self::Http2Kept)
    }

    fn is_kept(self) -> bool {
        matches!(self, Self::Http1Kept | Self::Http2Kept)
    }
}

/// What became of the requests of one client.
#[derive(Debug, Clone, Default)]
pub struct Count {
    pub sent: usize,
    /// Answered with 200 and the right body, by the SHA-256 of the leaf that was shown (lower-case hex).
    pub good: BTreeMap<String, usize>,
    /// Tried again: they had never left the client.
    pub unsent: usize,
    /// Tried again: the server had refused their stream.
    pub refused: usize,
    /// Everything else, in words.
    pub lost: Vec<String>,
}

impl Count {
    pub fn answered(&self) -> usize {
        self.good.values().sum()
    }
}

pub type Counts = BTreeMap<(Kind, IpAddr), Count>;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Order {
    pub addresses: Vec<IpAddr>,
    /// The name, in the certificate and as the host.
    pub name: &'static str,
    /// The authorities that clients trust, PEM.
    pub roots: PathBuf,
    /// The body that `/` gives.
    pub body: &'static str,
    /// Requests a second, all in all.
    pub rate: u32,
    /// How long what a client sends is on its way. A server that closes an idle connection meets requests that are under way
    /// to it, on the internet more than in a lab.
    pub distance: Duration,
}

/// A load that runs until it is stopped.
pub struct Load {
    began: Instant,
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<Counts>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts one client of each kind on each address, in the lab's `outside`.
    pub fn start(lab: &Lab, order: Order) -> Self {
        let clients: Vec<(Kind, IpAddr)> =
            order.addresses.iter().flat_map(|a| Kind::ALL.map(|kind| (kind, *a))).collect();
        let counts: Counts = clients.iter().map(|client| (*client, Count::default())).collect();
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(counts)));
        let pause = Duration::from_secs(1) * u32::try_from(clients.len()).unwrap() / order.rate;
        let namespace = std::fs::File::open(Path::new("/run/netns").join(lab.namespace("outside"))).unwrap();
        let configs = [b"http/1.1".as_slice(), b"h2"].map(|alpn| Arc::new(tls(&order.roots, alpn)));
        let work = {
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            move || {
                // This thread alone: sockets belong to the namespace of the thread that makes them.
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), network).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut all = JoinSet::new();
                    for (n, (kind, address)) in clients.into_iter().enumerate() {
                        let client = Client {
                            kind,
                            address,
                            order: order.clone(),
                            tls: TlsConnector::from(Arc::clone(&configs[usize::from(kind.is_http2())])),
                            pool: Mutex::default(),
                            opened: AtomicUsize::default(),
                            counts: Arc::clone(&counts),
                        };
                        // Not all at the same moment.
                        let first = pause * u32::try_from(n).unwrap() / 16;
                        all.spawn(Arc::new(client).run(first, pause, Arc::clone(&stop)));
                    }
                    all.join_all().await;
                });
            }
        };
        let thread = Some(std::thread::spawn(work));
        Self { began: Instant::now(), stop, counts, thread }
    }

    /// How it stands now.
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    /// No further request; gives what became of all of them, and for how long they were sent.
    pub fn stop(mut self) -> (Counts, Duration) {
        let lasted = self.began.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        (self.counts(), lasted)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tls(roots: &Path, alpn: &[u8]) -> ClientConfig {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots).unwrap() {
        store.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    // Each connection does the whole handshake, and so sees the certificate.
    config.resumption = rustls::client::Resumption::disabled();
    config
}

type Body = Empty<Bytes>;

enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

struct Connection {
    /// Which one it is of its client's.
    number: usize,
    sender: Sender,
    leaf: String,
}

/// What one try gave.
enum Tried {
    Good(String),
    Unsent,
    Refused,
    Lost(String),
}

struct Client {
    kind: Kind,
    address: IpAddr,
    order: Order,
    tls: TlsConnector,
    pool: Mutex<VecDeque<Connection>>,
    opened: AtomicUsize,
    counts: Arc<Mutex<Counts>>,
}

impl Client {
    async fn run(self: Arc<Self>, first: Duration, pause: Duration, stop: Arc<AtomicBool>) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + first, pause);
        let mut requests = JoinSet::new();
        loop {
            ticks.tick().await;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            while requests.try_join_next().is_some() {}
            if requests.len() < UNDER_WAY {
                self.count(|c| c.sent += 1);
                requests.spawn(Arc::clone(&self).request());
            }
        }
        requests.join_all().await;
    }

    fn count(&self, change: impl FnOnce(&mut Count)) {
        change(self.counts.lock().unwrap().entry((self.kind, self.address)).or_default());
    }

    async fn request(self: Arc<Self>) {
        for _ in 0..TRIES {
            let tried = tokio::time::timeout(PATIENCE, self.once()).await;
            match tried.unwrap_or_else(|_| Tried::Lost(format!("not done within {} s", PATIENCE.as_secs()))) {
                Tried::Good(leaf) => return self.count(|c| *c.good.entry(leaf).or_default() += 1),
                Tried::Lost(why) => return self.count(|c| c.lost.push(why)),
                Tried::Unsent => self.count(|c| c.unsent += 1),
                Tried::Refused => self.count(|c| c.refused += 1),
            }
        }
        self.count(|c| c.lost.push(format!("came back {TRIES} times")));
    }

    async fn once(&self) -> Tried {
        let connection = match self.idle() {
            Some(connection) => connection,
            None => match self.open().await {
                Ok(connection) => connection,
                Err(why) => return Tried::Lost(format!("no connection: {why}")),
            },
        };
        let Connection { number, sender, leaf } = connection;
        match sender {
            Sender::One(mut sender) => {
                let request = self.head("/").header("host", self.order.name).body(Body::new()).unwrap();
                let tried = match sender.try_send_request(request).await {
                    Ok(answer) => self.read(answer, &leaf).await,
                    Err(back) => failed(back),
                };
                // What says `close` is closed by now, or is found closed when its turn comes.
                if matches!(tried, Tried::Good(_)) && sender.ready().await.is_ok() {
                    self.keep(Connection { number, sender: Sender::One(sender), leaf });
                }
                tried
            }
            Sender::Two(mut sender) => {
                let request = self.head(&format!("https://{}/", self.order.name)).body(Body::new()).unwrap();
                let tried = match sender.try_send_request(request).await {
                    Ok(answer) => self.read(answer, &leaf).await,
                    Err(back) => failed(back),
                };
                // One that takes nothing any more ends, but is not seen to be closed until it has: the next try has another.
                if matches!(tried, Tried::Unsent | Tried::Refused) {
                    self.pool.lock().unwrap().retain(|kept| kept.number != number);
                }
                tried
            }
        }
    }

    fn head(&self, uri: &str) -> http::request::Builder {
        http::Request::get(uri).header("user-agent", format!("{:?}", self.kind))
    }

    async fn read(&self, answer: http::Response<hyper::body::Incoming>, leaf: &str) -> Tried {
        let status = answer.status();
        let body = match answer.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if is_untouched(&error) => return Tried::Refused,
            Err(error) => return Tried::Lost(format!("{status}, then {}", causes(&error))),
        };
        if status == 200 && body == self.order.body {
            return Tried::Good(leaf.to_owned());
        }
        Tried::Lost(format!("{status}: {}", String::from_utf8_lossy(&body)))
    }

    /// A kept connection that is not known to be closed; none until there are as many as there should be.
    fn idle(&self) -> Option<Connection> {
        if !self.kind.is_kept() {
            return None;
        }
        let mut pool = self.pool.lock().unwrap();
        pool.retain(|c| match &c.sender {
            Sender::One(sender) => !sender.is_closed(),
            Sender::Two(sender) => !sender.is_closed(),
        });
        // Streams share a connection.
        if let Some(Connection { number, sender: Sender::Two(sender), leaf }) = pool.front() {
            return Some(Connection { number: *number, sender: Sender::Two(sender.clone()), leaf: leaf.clone() });
        }
        if pool.len() < IDLE { None } else { pool.pop_front() }
    }

    fn keep(&self, connection: Connection) {
        if self.kind.is_kept() {
            self.pool.lock().unwrap().push_back(connection);
        }
    }

    async fn open(&self) -> Result<Connection, String> {
        let tcp = TcpStream::connect(SocketAddr::new(self.address, 443)).await.map_err(|e| format!("TCP: {e}"))?;
        tcp.set_nodelay(true).map_err(|e| e.to_string())?;
        let name = ServerName::try_from(self.order.name).unwrap();
        let stream = self.tls.connect(name, far(tcp, self.order.distance)).await.map_err(|e| format!("TLS: {e}"))?;
        let session = stream.get_ref().1;
        let wanted: &[u8] = if self.kind.is_http2() { b"h2" } else { b"http/1.1" };
        if session.alpn_protocol() != Some(wanted) {
            return Err(format!("ALPN: {:?}", session.alpn_protocol().map(String::from_utf8_lossy)));
        }
        let leaf = session.peer_certificates().and_then(|all| all.first()).ok_or("no certificate")?;
        let leaf = data_encoding::HEXLOWER.encode(&Sha256::digest(leaf));
        let (stream, number) = (TokioIo::new(stream), self.opened.fetch_add(1, Ordering::Relaxed));
        if !self.kind.is_http2() {
            let (sender, driver) = http1::handshake(stream).await.map_err(|e| causes(&e))?;
            tokio::spawn(driver);
            return Ok(Connection { number, sender: Sender::One(sender), leaf });
        }
        let (sender, driver) = http2::handshake(TokioExecutor::new(), stream).await.map_err(|e| causes(&e))?;
        tokio::spawn(driver);
        self.keep(Connection { number, sender: Sender::Two(sender.clone()), leaf: leaf.clone() });
        Ok(Connection { number, sender: Sender::Two(sender), leaf })
    }
}

/// A request that got no answer.
fn failed<T>(mut back: TrySendError<T>) -> Tried {
    if back.take_message().is_some() {
        return Tried::Unsent;
    }
    if is_untouched(back.error()) { Tried::Refused } else { Tried::Lost(causes(back.error())) }
}

/// Whether the server says that it has not looked at the request: a refused stream, or one beyond the last of a GOAWAY.
fn is_untouched(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|e| e.downcast_ref::<h2::Error>());
    error.is_some_and(|e| {
        e.is_remote() && (e.reason() == Some(h2::Reason::REFUSED_STREAM) && e.is_reset() || e.is_go_away())
    })
}

/// The near end of a connection to a server that is `distance` away: what is written arrives there so much later, what comes
/// from there has arrived.
fn far(tcp: TcpStream, distance: Duration) -> DuplexStream {
    let (near, middle) = tokio::io::duplex(1 << 16);
    let (mut from_server, mut to_server) = tcp.into_split();
    let (mut from_client, mut to_client) = tokio::io::split(middle);
    let (under_way, mut arriving) = unbounded_channel::<(tokio::time::Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut piece = [0; 1 << 14];
        while let Ok(n @ 1..) = from_client.read(&mut piece).await {
            if under_way.send((tokio::time::Instant::now() + distance, piece[..n].to_vec())).is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((when, piece)) = arriving.recv().await {
            tokio::time::sleep_until(when).await;
            if to_server.write_all(&piece).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    });
    near
}

/// An error with what is behind it.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
