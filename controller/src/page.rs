//! The System Overview page: the overview for people in a browser, over HTTPS on a port of its own.
//!
//! What it shows is what GetOverview says, and what it does are the calls that gRPC clients make, in
//! the name of who is logged in ([`crate::api::Operator`]). HTML is rendered here; a small script
//! puts the parts that changed in place. Without the script the page loads itself anew, and the
//! forms work all the same.

mod action;
mod assets;
mod board;
mod frame;
mod guard;
mod login;
mod options;
mod password;
mod port;
mod rows;
mod session;
mod stream;
mod throttle;
mod view;
mod words;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use gantry_runtime::clock;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::board::Board;
use self::frame::Filter;
use self::guard::Visitor;
use self::login::Fields;
pub use self::options::{PageOptions, Where};
pub use self::password::PasswordError;
use self::password::Passwords;
use self::session::Sessions;
use self::throttle::Throttle;
use crate::api::{Control, Operator};
use crate::serve::Trusted;
use crate::store::{NewEvent, Store, StoreError};

/// The only user so far, made at the first start.
const ADMIN: &str = "admin";
/// No form is longer.
const LONGEST_FORM: usize = 16 * 1024;
/// Pages open at a time.
const STREAMS: usize = 256;

/// The page cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("{path} cannot be used for the page", path = .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("setting up TLS for the page")]
    Tls(#[source] rustls::Error),
    #[error("listening on {address} for the page (--page says where, or off)")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// What the page is made from.
#[derive(Debug)]
struct Page {
    control: Arc<Control>,
    store: Store,
    board: Board,
    sessions: Sessions,
    throttle: Mutex<Throttle>,
    passwords: Passwords,
    streams: Arc<Semaphore>,
    /// Its certificate is not of the own authority: browsers trust it without being told.
    is_trusted: bool,
}

/// A page that listens already, and only has to be served.
pub struct Open {
    page: Arc<Page>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
}

/// Opens the page, if it is wanted. At the first start this makes the administrator's password.
pub async fn open(
    options: &PageOptions,
    names: &[String],
    control: &Arc<Control>,
    (store, trust): (Store, Trusted),
) -> Result<Option<Open>, PageError> {
    let Where::At(address) = options.address else { return Ok(None) };
    let certificates = match options.certificate() {
        Some((certificate, key)) => port::given(certificate, key)?,
        None => port::own(trust),
    };
    let tls = port::tls(certificates)?;
    let listening = TcpListener::bind(address).await;
    let listener = listening.map_err(|source| PageError::Listen { address, source })?;
    let passwords = Passwords::new().await?;
    let here = listener.local_addr().unwrap_or(address);
    if store.user(ADMIN).await?.is_none() {
        let event = NewEvent::info("USER_CREATED", &"users/admin", "made at the first start");
        let password = new_password(&store, "controller", event).await?;
        tell(&url(here, names), &password);
    }
    info!(address = %here, "serving the System Overview page");
    let reader = Operator::new(control, "page".to_owned(), "the page itself".to_owned());
    let page = Page {
        control: Arc::clone(control),
        store,
        board: Board::new(reader),
        sessions: Sessions::default(),
        throttle: Mutex::new(Throttle::new(clock::monotonic())),
        passwords,
        streams: Arc::new(Semaphore::new(STREAMS)),
        is_trusted: options.certificate().is_some(),
    };
    Ok(Some(Open { page: Arc::new(page), listener, tls }))
}

/// Gives the administrator a new password and shows it, for who lost the old one.
pub async fn reset_password(store: &Store) -> Result<(), PageError> {
    let event = NewEvent {
        severity: crate::store::Severity::Warning,
        ..NewEvent::info("PASSWORD_RESET", &"users/admin", "reset on the controller's machine")
    };
    let password = new_password(store, "console", event).await?;
    tell("", &password);
    Ok(())
}

/// How a browser reaches the page.
fn url(at: SocketAddr, names: &[String]) -> String {
    let port = at.port();
    let name = names.first().map_or("localhost", String::as_str);
    match (at.ip().is_unspecified(), name.parse()) {
        (false, _) => format!("https://{at}/"),
        (true, Ok(name)) => format!("https://{}/", SocketAddr::new(name, port)),
        (true, Err(_)) => format!("https://{name}:{port}/"),
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Open").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Open {
    /// Serves until stopped.
    pub async fn serve(self, stop: CancellationToken) {
        port::serve(self.listener, self.tls, routes(self.page), stop).await;
    }
}

async fn new_password(store: &Store, actor: &str, event: NewEvent) -> Result<String, PageError> {
    let password = password::generate();
    let hash = password::hash_once(password.clone()).await?;
    store.set_password(ADMIN, &hash, actor.to_owned(), event).await?;
    Ok(password)
}

/// Shows a password, this once. On standard output and not in the log: logs are collected.
fn tell(url: &str, password: &str) {
    let at = if url.is_empty() { String::new() } else { format!("\n  page      {url}") };
    let shown = writeln!(
        std::io::stdout().lock(),
        "\nThe System Overview page{at}\n  user      {ADMIN}\n  password  {password}\n\n\
         This is shown once and kept nowhere. Change it on the page; if it is lost, type\n\
         gantry-controller reset-password --state DIR\n"
    );
    if let Err(error) = shown {
        warn!(%error, "the page's password was not shown: make one with reset-password");
    }
}

fn routes(page: Arc<Page>) -> Router {
    let asset = |asset: &'static assets::Asset| get(move || std::future::ready(asset.answer()));
    let server = "/servers/{cluster}/{service}/{server}/{verb}";
    Router::new()
        .route("/", get(overview))
        .route("/login", get(login::form).post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/password", get(login::password_form).post(login::change_password))
        .route("/session", get(login::session).post(login::session))
        .route("/stream", get(stream::follow))
        .route("/servers/{cluster}/{service}", get(servers))
        .route(server, get(action::ask).post(action::act))
        .route(assets::STYLE.path(), asset(&assets::STYLE))
        .route(assets::SCRIPT.path(), asset(&assets::SCRIPT))
        .route(assets::ICON.path(), asset(&assets::ICON))
        .fallback(async || {
            (StatusCode::NOT_FOUND, view::refusal("Not found", "There is no such page."))
        })
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&page), guard::around))
        .layer(DefaultBodyLimit::max(LONGEST_FORM))
        .with_state(page)
}

/// The real servers of one virtual service, for a row that is opened.
async fn servers(
    State(page): State<Arc<Page>>,
    _visitor: Visitor,
    Path((cluster, service)): Path<(String, String)>,
) -> Response {
    let frame = page.board.look().await.ok();
    match frame.and_then(|frame| frame.servers(&format!("{cluster}/{service}"))) {
        Some(part) => part.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The overview as a whole page.
async fn overview(
    State(page): State<Arc<Page>>,
    visitor: Visitor,
    Query(query): Query<Fields>,
) -> Response {
    let field = |name| query.get(name).map(String::as_str).unwrap_or_default();
    let filter = Filter {
        state: field("state").to_owned(),
        text: field("q").to_lowercase(),
        open: field("open").to_owned(),
    };
    match page.board.look().await {
        Ok(frame) => {
            let notice = page.sessions.take_notice(&visitor.key);
            let session = &visitor.session;
            view::overview(&page.board, &frame, &filter, session, notice.as_deref()).into_response()
        }
        Err(status) => {
            warn!(why = status.message(), "the overview cannot be shown");
            let page = view::refusal("Not possible now", status.message());
            (StatusCode::SERVICE_UNAVAILABLE, page).into_response()
        }
    }
}
