//! The beginning of a DICOM file (DICOM PS3.10, section 7.1): preamble, `DICM` and the file meta
//! information; and explicit VR little endian data elements, in which that is written.

/// Gantry's samples, as an implementation class UID.
pub(super) const IMPLEMENTATION_CLASS: &str = "2.25.91838340622471543049132783203563514537";
pub(super) const IMPLEMENTATION_VERSION: &str = "GANTRY_SAMPLE";

/// What a file's meta information says of the data set after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta<'a> {
    pub(super) sop_class: &'a str,
    pub(super) sop_instance: &'a str,
    pub(super) transfer_syntax: &'a str,
}

/// Data elements in explicit VR little endian, written in ascending order of tags.
#[derive(Debug, Default)]
pub(super) struct Elements(Vec<u8>);

/// Everything in a file that comes before the data set.
pub(super) fn file_head(meta: Meta<'_>) -> Vec<u8> {
    let mut rest = Elements::default();
    rest.put(0x0002, 0x0001, *b"OB", &[0, 1]);
    rest.text(0x0002, 0x0002, *b"UI", meta.sop_class);
    rest.text(0x0002, 0x0003, *b"UI", meta.sop_instance);
    rest.text(0x0002, 0x0010, *b"UI", meta.transfer_syntax);
    rest.text(0x0002, 0x0012, *b"UI", IMPLEMENTATION_CLASS);
    rest.text(0x0002, 0x0013, *b"SH", IMPLEMENTATION_VERSION);
    let rest = rest.into_bytes();
    let length = u32::try_from(rest.len()).expect("a few UIDs");
    let mut group_length = Elements::default();
    group_length.put(0x0002, 0x0000, *b"UL", &length.to_le_bytes());
    [&[0; 128], b"DICM".as_slice(), &group_length.into_bytes(), &rest].concat()
}

impl Elements {
    /// Text, padded to an even length as its VR wants it.
    pub(super) fn text(&mut self, group: u16, element: u16, vr: [u8; 2], text: &str) {
        let mut value = text.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == *b"UI" { 0 } else { b' ' });
        }
        self.put(group, element, vr, &value);
    }

    pub(super) fn number(&mut self, group: u16, element: u16, number: u16) {
        self.put(group, element, *b"US", &number.to_le_bytes());
    }

    /// A value of even length.
    pub(super) fn put(&mut self, group: u16, element: u16, vr: [u8; 2], value: &[u8]) {
        self.0.extend_from_slice(&group.to_le_bytes());
        self.0.extend_from_slice(&element.to_le_bytes());
        self.0.extend_from_slice(&vr);
        if vr == *b"OB" {
            let length = u32::try_from(value.len()).expect("pixels below 32 MiB");
            self.0.extend_from_slice(&[0, 0]);
            self.0.extend_from_slice(&length.to_le_bytes());
        } else {
            let length = u16::try_from(value.len()).expect("text and numbers are short");
            self.0.extend_from_slice(&length.to_le_bytes());
        }
        self.0.extend_from_slice(value);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
