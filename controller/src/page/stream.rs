//! What a page that is open is sent: the parts that changed, and every second a sign of life.
//!
//! The sign of life is what a page is sure of its data by: without it, it greys itself out. Who only
//! looks does nothing: the stream does not keep a session.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use gantry_runtime::clock;
use tokio::sync::OwnedSemaphorePermit;

use super::Page;
use super::frame::Frame;
use super::guard::{self, Visitor};
use super::login::Fields;
use crate::api::News;

/// Between two looks at what changed.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two signs of life.
const TICK: Duration = Duration::from_secs(1);

pub(super) async fn follow(
    State(page): State<Arc<Page>>,
    visitor: Visitor,
    Query(query): Query<Fields>,
) -> Response {
    let Ok(permit) = Arc::clone(&page.streams).try_acquire_owned() else {
        let why = "Too many pages are open.";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let seen = match query.get("frame") {
        Some(mark) => page.board.find(mark).await,
        None => None,
    };
    let news = page.board.news();
    let watch = Watch { page, visitor, seen, news, begun: false, ended: false, _permit: permit };
    Sse::new(events(watch)).into_response()
}

fn events(watch: Watch) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Some((Ok(event), watch))
    })
}

/// One open page.
struct Watch {
    page: Arc<Page>,
    visitor: Visitor,
    /// What the page shows.
    seen: Option<Arc<Frame>>,
    news: News,
    begun: bool,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        if !self.is_logged_in().await {
            self.ended = true;
            return Some(Event::default().event("ended").data("session"));
        }
        if std::mem::replace(&mut self.begun, true) {
            tokio::time::sleep(PAUSE).await;
            // News is cancel safe, by its documentation. Without any it is looked all the same.
            let _quiet = tokio::time::timeout(TICK - PAUSE, self.news.wait()).await;
        }
        let changes = self.changes().await;
        let time = clock::wall().as_millisecond();
        Some(match changes {
            Some((mark, parts)) => {
                Event::default().event("parts").id(mark).data(format!("{time}\n{parts}"))
            }
            None => Event::default().event("tick").data(time.to_string()),
        })
    }

    async fn is_logged_in(&self) -> bool {
        let Visitor { key, session, .. } = &self.visitor;
        self.page.sessions.find(key, clock::monotonic()).is_some()
            && guard::is_current(&self.page, key, session).await
    }

    /// What the page does not show yet, if there is anything, and the mark of the frame it is of.
    async fn changes(&mut self) -> Option<(String, String)> {
        let frame = self.page.board.look().await.ok()?;
        let parts = match &self.seen {
            Some(seen) => frame.since(seen),
            None => frame.whole(),
        };
        let mark = self.page.board.mark(&frame);
        self.seen = Some(frame);
        // A carriage return would end a line of the stream.
        (!parts.is_empty()).then(|| (mark, parts.replace('\r', " ")))
    }
}
