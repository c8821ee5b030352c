//! What became of associations of DICOM.

use std::fmt::{Display, Write};

use gantry_proto::v1;

/// In all, and by calling AE title.
pub(super) fn associations(text: &mut String, dicom: Option<&v1::DicomStatistics>) {
    let Some(dicom) = dicom else { return };
    text.push_str("\nAssociations and what was stored, by calling AE title:\n");
    let head =
        ["open", "asked", "accepted", "rejected", "refused", "aborted", "stored", "failed", "full"];
    row(text, "", &head);
    for one in &dicom.ae_titles {
        row(text, &one.ae_title, &figures(one.counts));
    }
    row(text, "all", &figures(dicom.all));
}

fn figures(counts: Option<v1::DicomCounts>) -> [i64; 9] {
    let counts = counts.unwrap_or_default();
    [
        counts.associations,
        counts.requested_total,
        counts.accepted_total,
        counts.rejected_total,
        counts.refused_total,
        counts.aborted_total,
        counts.stored_total,
        counts.store_failures_total,
        counts.out_of_resources_total,
    ]
}

fn row(text: &mut String, title: &str, cells: &[impl Display]) {
    let _ = write!(text, "  {title:16}");
    for cell in cells {
        let _ = write!(text, " {cell:>8}");
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_title_has_its_line() {
        let counts = |requested_total, stored_total| v1::DicomCounts {
            associations: 1,
            requested_total,
            accepted_total: requested_total,
            stored_total,
            ..Default::default()
        };
        let title = |title: &str, counts| v1::AeTitleCounts {
            ae_title: title.to_owned(),
            counts: Some(counts),
        };
        let dicom = v1::DicomStatistics {
            all: Some(counts(1203, 99_000)),
            ae_titles: vec![title("CT1", counts(1200, 98_000)), title("MR OLD", counts(3, 1000))],
        };
        let mut text = String::new();
        associations(&mut text, Some(&dicom));
        let expected = "
Associations and what was stored, by calling AE title:
                       open    asked accepted rejected  refused  aborted   stored   failed     full
  CT1                     1     1200     1200        0        0        0    98000        0        0
  MR OLD                  1        3        3        0        0        0     1000        0        0
  all                     1     1203     1203        0        0        0    99000        0        0
";
        assert_eq!(text, expected);
        associations(&mut text, None);
        assert_eq!(text, expected, "and nothing where there is none");
    }
}
