//! The DICOM C-ECHO: an association for the Verification SOP class, one C-ECHO-RQ, and the status
//! of the response. A status other than 0x0000 is a failure, whatever the association did.
//!
//! The PDUs are dicom-ul's; the socket is ours, because a check must bound what it reads before it
//! is parsed, answer without Nagle's delay and say in words which step went wrong. There is no
//! C-FIND here: an application entity that verifies but finds nothing needs another check.

mod command;
mod words;

use dicom_ul::Pdu;
use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, PDataValue, PDataValueType, PresentationContextProposed,
    PresentationContextResultReason, UserVariableItem, read_pdu, write_pdu,
};
use gantry_model::check::DicomEcho;
use tokio::io::AsyncReadExt;

use super::failure::{Failure, Outcome};
use super::link::{Goodbye, Link};

/// The longest PDU that is read; what a check asks for fits in a few hundred bytes.
const PDU_LIMIT: u32 = 1024 * 1024;
/// The longest command set that is put together from fragments.
const COMMAND_LIMIT: usize = 64 * 1024;
/// The longest P-DATA PDU that the server is invited to send.
const RECEIVE_LENGTH: u32 = 16 * 1024;
/// The only presentation context.
const CONTEXT: u8 = 1;

/// A-RELEASE-RQ; an A-RELEASE-RP is as long.
const RELEASE: Goodbye = Goodbye { words: &[0x05, 0, 0, 0, 0, 4, 0, 0, 0, 0], answer: 10 };
/// A-ABORT by the service user.
const ABORT: Goodbye = Goodbye { words: &[0x07, 0, 0, 0, 0, 4, 0, 0, 0, 0], answer: 0 };

const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
const VERIFICATION: &str = "1.2.840.10008.1.1";
const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";
const IMPLEMENTATION_CLASS: &str = "2.25.253764126718231046539716180712349158243";
const IMPLEMENTATION_VERSION: &str = "GANTRY_HEALTHD";

pub(super) async fn ask(echo: &DicomEcho, link: &mut Link) -> Outcome {
    link.open(echo.tls).await?;
    link.begin("waiting for the association to be accepted");
    link.on_close(ABORT);
    send(link, &association_request(echo)).await?;
    accepted(receive(link).await?)?;
    link.begin("waiting for the C-ECHO response");
    send(link, &echo_request()).await?;
    let status = echo_status(link).await?;
    link.on_close(RELEASE);
    match status {
        0x0000 => Ok("C-ECHO 0x0000".to_owned()),
        status => Err(words::status(status).into()),
    }
}

fn association_request(echo: &DicomEcho) -> Pdu {
    Pdu::AssociationRQ(AssociationRQ {
        protocol_version: 1,
        calling_ae_title: echo.calling.as_str().to_owned(),
        called_ae_title: echo.called.as_str().to_owned(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: vec![PresentationContextProposed {
            id: CONTEXT,
            abstract_syntax: VERIFICATION.to_owned(),
            transfer_syntaxes: vec![IMPLICIT_VR_LITTLE_ENDIAN.to_owned()],
        }],
        user_variables: vec![
            UserVariableItem::MaxLength(RECEIVE_LENGTH),
            UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS.to_owned()),
            UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION.to_owned()),
        ],
    })
}

fn accepted(answer: Pdu) -> Result<(), Failure> {
    let accepted: AssociationAC = match answer {
        Pdu::AssociationAC(accepted) => accepted,
        other => return Err(unexpected(&other, "the association request")),
    };
    let context = accepted.presentation_contexts.iter().find(|context| context.id == CONTEXT);
    match context.map(|context| &context.reason) {
        Some(PresentationContextResultReason::Acceptance) => Ok(()),
        Some(reason) => Err(format!("association accepted, but not for C-ECHO ({reason})").into()),
        None => Err("association accepted, but not for C-ECHO".into()),
    }
}

fn echo_request() -> Pdu {
    Pdu::PData {
        data: vec![PDataValue {
            presentation_context_id: CONTEXT,
            value_type: PDataValueType::Command,
            is_last: true,
            data: command::echo_request(VERIFICATION),
        }],
    }
}

/// Reads fragments until the response's command set is complete.
async fn echo_status(link: &mut Link) -> Result<u16, Failure> {
    let mut command = Vec::new();
    loop {
        let values = match receive(link).await? {
            Pdu::PData { data } => data,
            other => return Err(unexpected(&other, "the C-ECHO")),
        };
        for value in values {
            if value.value_type == PDataValueType::Data || value.presentation_context_id != CONTEXT
            {
                return Err("the server answered the C-ECHO with something else".into());
            }
            command.extend_from_slice(&value.data);
            if command.len() > COMMAND_LIMIT {
                return Err("the C-ECHO response is too long".into());
            }
            if value.is_last {
                return command::echo_status(&command).map_err(Failure::from);
            }
        }
    }
}

/// A PDU that does not answer `asked`.
fn unexpected(pdu: &Pdu, asked: &str) -> Failure {
    let instead = match pdu {
        Pdu::ReleaseRQ | Pdu::ReleaseRP => "a release",
        Pdu::AssociationRQ(_) => "an association request of its own",
        Pdu::AssociationAC(_) => "an acceptance",
        Pdu::PData { .. } => "data",
        _ => "something else",
    };
    format!("the server answered {asked} with {instead}").into()
}

async fn send(link: &mut Link, pdu: &Pdu) -> Result<(), Failure> {
    let mut bytes = Vec::with_capacity(512);
    write_pdu(&mut bytes, pdu).map_err(|error| Failure::Own(error.to_string()))?;
    link.send(&bytes).await
}

/// Reads one PDU. Rejections and aborts are failures, with the reasons that are in them.
async fn receive(link: &mut Link) -> Result<Pdu, Failure> {
    let mut bytes = vec![0; 6];
    read(link, &mut bytes).await?;
    if !(0x01..=0x07).contains(&bytes[0]) {
        return Err("the answer is not DICOM".into());
    }
    let length = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
    if length > PDU_LIMIT {
        return Err(format!("the server announced a PDU of {length} bytes").into());
    }
    // Only what has come takes memory, not what was announced.
    let mut rest = link.stream().take(u64::from(length));
    let body = rest.read_to_end(&mut bytes).await.map_err(|error| Failure::talking(&error))?;
    if body < length as usize {
        return Err("connection closed in the middle of an answer".into());
    }
    match (bytes[0], &bytes[6..]) {
        (0x03, &[_, result, source, reason]) => {
            link.on_close(Goodbye::NONE);
            Err(words::rejection(result, source, reason).into())
        }
        (0x07, &[_, _, source, reason]) => {
            link.on_close(Goodbye::NONE);
            Err(words::abort(source, reason).into())
        }
        _ => match read_pdu(bytes.as_slice(), PDU_LIMIT, true) {
            Ok(Some(pdu)) => Ok(pdu),
            Ok(None) | Err(_) => Err("the answer is not well-formed DICOM".into()),
        },
    }
}

async fn read(link: &mut Link, header: &mut [u8]) -> Result<(), Failure> {
    let mut filled = 0;
    while filled < header.len() {
        let read = link.stream().read(&mut header[filled..]).await;
        match read.map_err(|error| Failure::talking(&error))? {
            0 if filled == 0 => return Err("connection closed instead of an answer".into()),
            0 => return Err("connection closed in the middle of an answer".into()),
            read => filled += read,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
