//! The local feed of health: listens to healthd on its Unix socket.
//!
//! Servers without a verdict are unknown, not unhealthy; when healthd goes away, its last verdicts
//! stand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::name::ServerName;
use gantry_model::wire;
use gantry_proto::agent::v1::health_feed_service_client::HealthFeedServiceClient;
use gantry_proto::agent::v1::{WatchVerdictsRequest, WatchVerdictsResponse};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::rpc;
use crate::tasks::Tasks;

/// Takes what the feed says.
pub trait Hear: Send + 'static {
    /// New verdicts; none: nothing is known of that server any more.
    fn hear(&mut self, news: Vec<News>);
}

/// What is said of a server now.
pub type News = (ServerName, Option<bool>);

/// How long healthd may keep an agent that starts from carrying traffic: it may be dead itself.
const FIRST_WORD: Duration = Duration::from_millis(500);

/// Hears what healthd knows already, before any traffic is carried: servers known to be dead get
/// none of it then. Goes on listening as one of the `tasks`.
pub async fn start(tasks: &mut Tasks, socket: &Path, mut hear: impl Hear) {
    let known = first_word(socket, &mut hear).await;
    tasks.start("health feed", listen(socket.to_owned(), hear, known, tasks.stop()));
}

/// Gives the servers that were spoken of.
async fn first_word(socket: &Path, hear: &mut impl Hear) -> BTreeSet<ServerName> {
    let mut backoff = Backoff::for_neighbour();
    let word = async {
        loop {
            if let Ok(mut stream) = open(socket).await
                && let Ok(Some(message)) = stream.message().await
            {
                return message;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    };
    let mut known = BTreeSet::new();
    match tokio::time::timeout(FIRST_WORD, word).await {
        Ok(message) => take(&message, hear, &mut known),
        Err(_) => warn!("starting without a word from healthd"),
    }
    known
}

/// Listens until stopped, coming back when healthd does.
async fn listen(
    socket: PathBuf,
    mut hear: impl Hear,
    mut known: BTreeSet<ServerName>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::for_neighbour();
    let mut told = String::new();
    let forever = async {
        loop {
            let why = listen_once(&socket, &mut hear, &mut known, &mut backoff).await;
            if why != told {
                warn!(why, "no word from healthd; its last verdicts stand");
                told = why;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    };
    let _stopped = stop.run_until_cancelled(forever).await;
}

async fn listen_once(
    socket: &Path,
    hear: &mut impl Hear,
    known: &mut BTreeSet<ServerName>,
    backoff: &mut Backoff,
) -> String {
    let mut stream = match open(socket).await {
        Ok(stream) => stream,
        Err(status) => return rpc::why(&status),
    };
    info!("listening to healthd");
    backoff.reset();
    loop {
        match stream.message().await {
            Ok(Some(message)) => take(&message, hear, known),
            Ok(None) => return "healthd closed the feed".to_owned(),
            Err(status) => return rpc::why(&status),
        }
    }
}

async fn open(socket: &Path) -> Result<Streaming<WatchVerdictsResponse>, Status> {
    let mut client = HealthFeedServiceClient::new(rpc::connect_socket(socket.to_owned()))
        .max_decoding_message_size(64 << 20);
    Ok(client.watch_verdicts(WatchVerdictsRequest {}).await?.into_inner())
}

fn take(message: &WatchVerdictsResponse, hear: &mut impl Hear, known: &mut BTreeSet<ServerName>) {
    let mut missing = if message.full { std::mem::take(known) } else { BTreeSet::new() };
    let mut news = Vec::with_capacity(message.verdicts.len());
    for verdict in &message.verdicts {
        match wire::verdict(verdict) {
            Ok(Ok(verdict)) => {
                missing.remove(&verdict.server);
                known.insert(verdict.server.clone());
                news.push((verdict.server, Some(verdict.healthy)));
            }
            Ok(Err(gone)) => {
                known.remove(&gone);
                news.push((gone, None));
            }
            Err(why) => warn!(%why, "healthd sent nonsense"),
        }
    }
    news.extend(missing.into_iter().map(|server| (server, None)));
    hear.hear(news);
}
