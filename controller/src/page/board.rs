//! The newest frame, made when somebody looks and shared by all who do.
//!
//! Nobody looking costs nothing; a hundred looking cost little more than one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gantry_runtime::clock;
use tokio::sync::Mutex;
use tonic::Status;

use super::frame::Frame;
use crate::api::{News, Operator};

/// Not more frames than one in this time, however many look and however much changes.
const APART: Duration = Duration::from_millis(200);
/// Without news a frame is good for so long: a drain becomes a halt by time alone.
const FRESH: Duration = Duration::from_millis(900);
/// Frames that a page may be compared with when it comes back.
const KEPT: usize = 16;
/// Events at the foot of the page.
const EVENTS: i32 = 10;

/// Gives frames.
#[derive(Debug)]
pub(super) struct Board {
    /// The page itself, which may look at everything and does nothing.
    reader: Operator,
    /// Tells this run of the controller from others.
    run: String,
    recent: Mutex<Recent>,
}

#[derive(Debug)]
struct Recent {
    frames: VecDeque<Arc<Frame>>,
    /// When the newest was made.
    at: Option<Instant>,
    /// What is new since.
    news: News,
}

impl Board {
    pub(super) fn new(reader: Operator) -> Self {
        let run = super::session::random()[..12].to_owned();
        let recent = Recent { frames: VecDeque::new(), at: None, news: reader.news() };
        Self { reader, run, recent: Mutex::new(recent) }
    }

    pub(super) fn news(&self) -> News {
        self.reader.news()
    }

    /// How things are now.
    pub(super) async fn look(&self) -> Result<Arc<Frame>, Status> {
        let mut recent = self.recent.lock().await;
        let age = |at: Instant| clock::monotonic().saturating_duration_since(at);
        let age = recent.at.map_or(FRESH, age);
        if !recent.news.take() {
            if let Some(frame) = recent.frames.back().filter(|_| age < FRESH) {
                return Ok(Arc::clone(frame));
            }
        } else if age < APART {
            // Whoever else looks meanwhile waits here and shares what is made.
            tokio::time::sleep(APART - age).await;
            recent.news.take();
        }
        let overview = self.reader.overview().await?;
        let events = self.reader.events(EVENTS).await?;
        let before = recent.frames.back().map(AsRef::as_ref);
        let frame = Arc::new(Frame::new(overview, &events, before));
        recent.at = Some(clock::monotonic());
        if let Some(same) = recent.frames.back().filter(|before| frame.is_like(before)) {
            return Ok(Arc::clone(same));
        }
        recent.frames.push_back(Arc::clone(&frame));
        if recent.frames.len() > KEPT {
            recent.frames.pop_front();
        }
        Ok(frame)
    }

    /// What a page calls the frame that it shows.
    pub(super) fn mark(&self, frame: &Frame) -> String {
        format!("{}.{}", self.run, frame.number)
    }

    /// The frame with this mark, if it is not long ago.
    pub(super) async fn find(&self, mark: &str) -> Option<Arc<Frame>> {
        let number: u64 = mark.strip_prefix(&self.run)?.strip_prefix('.')?.parse().ok()?;
        let recent = self.recent.lock().await;
        recent.frames.iter().find(|frame| frame.number == number).cloned()
    }
}
