//! For tests: what dcmtk 3.6.7 sends, and PDUs made by hand after the tables of PS3.8.

/// `echoscu -aet MODALITY -aec PACS` and what `storescp` answers, from the first byte to the last.
pub(super) const ECHO_CLIENT: &str = include_str!("samples/echo-client.hex");
pub(super) const ECHO_SERVER: &str = include_str!("samples/echo-server.hex");
/// `storescu -R` with an image without pixels, and what `storescp` answers.
pub(super) const STORE_CLIENT: &str = include_str!("samples/store-client.hex");
pub(super) const STORE_SERVER: &str = include_str!("samples/store-server.hex");

pub(super) const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";
pub(super) const VERIFICATION: &str = "1.2.840.10008.1.1";
pub(super) const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
pub(super) const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|digit| digit.to_digit(16)).map(byte).collect();
    digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
}

/// The first PDU of what was sent.
pub(super) fn first(hex: &str) -> Vec<u8> {
    let mut bytes = bytes(hex);
    let header = super::Header::read(&bytes, u32::MAX).unwrap().unwrap();
    bytes.truncate(header.whole());
    bytes
}

pub(super) fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 0], length.as_slice(), body].concat()
}

/// An item or a sub-item of an association PDU.
pub(super) fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind, 0], length.as_slice(), value].concat()
}

/// A-ASSOCIATE-RQ (1) or A-ASSOCIATE-AC (2), from PACS to MODALITY.
pub(super) fn associate(kind: u8, items: &[Vec<u8>]) -> Vec<u8> {
    let titles = b"PACS            MODALITY        ";
    pdu(kind, &[&[0, 1, 0, 0], titles.as_slice(), &[0; 32], &items.concat()].concat())
}

pub(super) fn application_context() -> Vec<u8> {
    item(0x10, super::APPLICATION_CONTEXT.as_bytes())
}

pub(super) fn proposed(id: u8, sub_items: &[Vec<u8>]) -> Vec<u8> {
    item(0x20, &[&[id, 0, 0, 0], sub_items.concat().as_slice()].concat())
}

pub(super) fn answered(id: u8, result: u8, sub_items: &[Vec<u8>]) -> Vec<u8> {
    item(0x21, &[&[id, 0, result, 0], sub_items.concat().as_slice()].concat())
}

pub(super) fn abstract_syntax(uid: &str) -> Vec<u8> {
    item(0x30, uid.as_bytes())
}

pub(super) fn transfer_syntax(uid: &str) -> Vec<u8> {
    item(0x40, uid.as_bytes())
}

/// User information with a maximum length.
pub(super) fn user(length: u32) -> Vec<u8> {
    item(0x50, &item(0x51, &length.to_be_bytes()))
}

/// A command element.
pub(super) fn element(number: u16, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_le_bytes();
    [&[0, 0], number.to_le_bytes().as_slice(), &length, value].concat()
}

/// A command element with a number in it.
pub(super) fn short(number: u16, value: u16) -> Vec<u8> {
    element(number, &value.to_le_bytes())
}

/// A C-STORE-RSP.
pub(super) fn store_response(status: u16) -> Vec<u8> {
    let class = element(0x0002, b"1.2.840.10008.5.1.4.1.1.7\0");
    [class, short(0x0100, 0x8001), short(0x0120, 7), short(0x0800, 0x0101), short(0x0900, status)]
        .concat()
}

/// A PDV. Of `control`, 1 says that it is of a command, and 2 that it is the last of its kind.
pub(super) fn data_value(context: u8, control: u8, fragment: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fragment.len() + 2).unwrap().to_be_bytes();
    [length.as_slice(), &[context, control], fragment].concat()
}

fn byte(digit: u32) -> u8 {
    u8::try_from(digit).unwrap()
}
