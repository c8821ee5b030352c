//! When an agent is asked to renew its certificate: once on each stream, when another CA signs than
//! the one that signed it; and once more when the older CA is retired, to trust it no longer.

use std::sync::Arc;

use tokio::sync::watch;

use crate::authority::{Shown, Trust};

#[derive(Debug)]
pub(super) struct Renewal {
    trust: watch::Receiver<Arc<Trust>>,
    shown: Option<Arc<Shown>>,
    /// The CAs that were trusted when the agent was asked last.
    asked: Option<Vec<String>>,
    /// How many were trusted when it was looked at last.
    before: usize,
}

impl Renewal {
    pub(super) fn new(trust: watch::Receiver<Arc<Trust>>, shown: Option<Arc<Shown>>) -> Self {
        let before = trust.borrow().trusted().count();
        Self { trust, shown, asked: None, before }
    }

    /// Waits until the agent is to be asked. Cancel safe: it waits in one place only, and there by
    /// `changed`, which is.
    pub(super) async fn wanted(&mut self) {
        loop {
            if self.is_wanted() {
                return;
            }
            if self.trust.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn is_wanted(&mut self) -> bool {
        let trust = self.trust.borrow_and_update();
        let trusted: Vec<_> = trust.trusted().map(|ca| ca.id()).collect();
        let other_ca = self.shown.as_ref().is_some_and(|shown| Some(&shown.ca) != trusted.first());
        let fewer = trusted.len() < self.before;
        self.before = trusted.len();
        let wanted = fewer || other_ca && self.asked.as_ref() != Some(&trusted);
        if wanted {
            self.asked = Some(trusted);
        }
        wanted
    }
}
