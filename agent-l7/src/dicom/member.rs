//! One association among those of its service, from the request to the end.

use std::num::NonZeroU32;
use std::sync::Arc;

use gantry_medical::dicom::StatusClass;
use gantry_model::dicom::Dicom;

use crate::service::Service;
use crate::stats::{Count, DicomCounts};

use super::Story;

/// An association that was asked for; it counts as open until this is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    service: Arc<Service>,
    /// Those of its calling AE title.
    title: Arc<DicomCounts>,
    story: Arc<Story>,
}

impl Member {
    pub(crate) fn new(service: &Arc<Service>, story: Story) -> Self {
        let title = service.title(&story.calling);
        let member = Self { service: Arc::clone(service), title, story: Arc::new(story) };
        for counts in member.counts() {
            counts.open.add(1);
            counts.requested.add(1);
        }
        member
    }

    /// Whether there are no more associations than there may be, with this one.
    pub(crate) fn fits(&self, dicom: &Dicom) -> bool {
        let fits = |counts: &DicomCounts, most: Option<NonZeroU32>| {
            most.is_none_or(|most| counts.open.get() <= most.get().into())
        };
        let [all, title] = self.counts();
        fits(all, dicom.most_associations) && fits(title, dicom.most_per_title)
    }

    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    pub(crate) fn story(&self) -> &Arc<Story> {
        &self.story
    }

    pub(crate) fn accepted(&self) {
        self.count(|counts| &counts.accepted);
    }

    pub(crate) fn rejected(&self) {
        self.count(|counts| &counts.rejected);
    }

    pub(crate) fn refused(&self) {
        self.count(|counts| &counts.refused);
    }

    pub(super) fn aborted(&self) {
        self.count(|counts| &counts.aborted);
    }

    /// A C-STORE was answered with a status of this class.
    pub(super) fn answered(&self, class: StatusClass) {
        if class.is_failure() {
            self.story.failed.add(1);
            self.count(|counts| &counts.store_failures);
            if class == StatusClass::OutOfResources {
                self.count(|counts| &counts.out_of_resources);
            }
            return;
        }
        if class == StatusClass::Warning {
            self.count(|counts| &counts.store_warnings);
        }
        if matches!(class, StatusClass::Success | StatusClass::Warning) {
            self.story.stored.add(1);
            self.count(|counts| &counts.stored);
        }
    }

    fn count(&self, which: impl Fn(&DicomCounts) -> &Count) {
        self.counts().into_iter().for_each(|counts| which(counts).add(1));
    }

    /// Of the service, and of the title.
    fn counts(&self) -> [&DicomCounts; 2] {
        [&self.service.counts.dicom, &self.title]
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.counts().into_iter().for_each(|counts| counts.open.sub(1));
    }
}
