//! Images to send: small valid DICOM Secondary Capture files, of nobody, with synthetic pixels.
//!
//! Each call makes one study with one series; all UIDs are new.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use uuid::Uuid;

use super::part10::{Elements, Meta, file_head};

const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";
const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
const COLUMNS: u16 = 512;

/// One image of a series.
struct Image<'a> {
    study: &'a str,
    series: &'a str,
    instance: &'a str,
    number: u32,
    rows: u16,
}

/// Makes `count` images of `kib` KiB of pixels (at most 32,767) in `dir`, which is made if need be.
pub(crate) fn make_dicom(dir: &Path, count: u32, kib: u16) -> anyhow::Result<Vec<PathBuf>> {
    let rows = kib.checked_mul(2).filter(|rows| *rows > 0).context("1 to 32767 KiB")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let (study, series) = (new_uid(), new_uid());
    let make = |number| {
        let instance = &new_uid();
        let image = Image { study: &study, series: &series, instance, number, rows };
        let path = dir.join(format!("gantry-{number:05}.dcm"));
        fs::write(&path, file(&image))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    (1..=count).map(make).collect()
}

/// A UID that nobody else has (DICOM PS3.5, section B.2).
fn new_uid() -> String {
    format!("2.25.{}", Uuid::new_v4().as_u128())
}

fn file(image: &Image<'_>) -> Vec<u8> {
    let mut file = file_head(Meta {
        sop_class: SECONDARY_CAPTURE,
        sop_instance: image.instance,
        transfer_syntax: EXPLICIT_VR_LITTLE_ENDIAN,
    });
    file.extend_from_slice(&data_set(image));
    file
}

/// The attributes of types 1 and 2 (DICOM PS3.3, section A.8.1).
fn data_set(image: &Image<'_>) -> Vec<u8> {
    let mut set = Elements::default();
    set.text(0x0008, 0x0008, *b"CS", "DERIVED\\SECONDARY");
    set.text(0x0008, 0x0016, *b"UI", SECONDARY_CAPTURE);
    set.text(0x0008, 0x0018, *b"UI", image.instance);
    set.text(0x0008, 0x0020, *b"DA", "20250101");
    set.text(0x0008, 0x0030, *b"TM", "120000");
    set.text(0x0008, 0x0050, *b"SH", "");
    set.text(0x0008, 0x0060, *b"CS", "OT");
    set.text(0x0008, 0x0064, *b"CS", "SYN");
    set.text(0x0008, 0x0090, *b"PN", "");
    set.text(0x0010, 0x0010, *b"PN", "GANTRY^SAMPLE");
    set.text(0x0010, 0x0020, *b"LO", "GANTRY-SAMPLE");
    set.text(0x0010, 0x0030, *b"DA", "");
    set.text(0x0010, 0x0040, *b"CS", "");
    set.text(0x0020, 0x000D, *b"UI", image.study);
    set.text(0x0020, 0x000E, *b"UI", image.series);
    set.text(0x0020, 0x0010, *b"SH", "1");
    set.text(0x0020, 0x0011, *b"IS", "1");
    set.text(0x0020, 0x0013, *b"IS", &image.number.to_string());
    set.text(0x0020, 0x0020, *b"CS", "");
    set.number(0x0028, 0x0002, 1);
    set.text(0x0028, 0x0004, *b"CS", "MONOCHROME2");
    set.number(0x0028, 0x0010, image.rows);
    set.number(0x0028, 0x0011, COLUMNS);
    set.number(0x0028, 0x0100, 8);
    set.number(0x0028, 0x0101, 8);
    set.number(0x0028, 0x0102, 7);
    set.number(0x0028, 0x0103, 0);
    set.put(0x7FE0, 0x0010, *b"OB", &pixels(image));
    set.into_bytes()
}

/// Stripes that move from image to image.
fn pixels(image: &Image<'_>) -> Vec<u8> {
    let shade = |row: u32, column: u32| (row ^ column).wrapping_add(image.number).to_le_bytes()[0];
    let row = |row| (0..u32::from(COLUMNS)).map(move |column| shade(row, column));
    (0..u32::from(image.rows)).flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn dcmtk_takes_them_for_dicom() {
        let dir = tempfile::tempdir().unwrap();
        let made = make_dicom(dir.path(), 3, 16).unwrap();
        let test = Command::new("dcmftest").args(&made).output().unwrap();
        assert!(test.status.success(), "{test:?}");
        let dump = Command::new("dcmdump").args(["+W", "/dev/null"]).arg(&made[2]).output();
        let dump = String::from_utf8(dump.unwrap().stdout).unwrap();
        for expected in ["[GANTRY^SAMPLE]", "=SecondaryCaptureImageStorage", "US 32 ", "US 512 "] {
            assert!(dump.contains(expected), "{expected} in {dump}");
        }
    }

    #[test]
    fn sizes_are_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        assert!(make_dicom(dir.path(), 1, 0).is_err());
        assert!(make_dicom(dir.path(), 1, 32_768).is_err());
        let made = make_dicom(dir.path(), 1, 64).unwrap();
        let length = fs::metadata(&made[0]).unwrap().len();
        assert!((64 * 1024..66 * 1024).contains(&length), "{length}");
    }
}
