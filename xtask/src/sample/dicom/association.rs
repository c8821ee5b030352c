//! One association: negotiation, then requests, one at a time, until it is released or aborted.
//!
//! Fragments go to the file as they come, so an object of any size takes little memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use dicom_ul::Pdu;
use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, AssociationAC, AssociationRQ, PDataValue,
    PDataValueType, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason, UserVariableItem, read_pdu, write_pdu,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Archive;
use super::command::{C_ECHO_RQ, C_STORE_RQ, Request, Status};
use super::object::{Incoming, is_uid};
use crate::sample::part10::{IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION, Meta};
use crate::sample::say;

/// The longest PDU that is read.
const PDU_LIMIT: u32 = 1024 * 1024;
/// The longest P-DATA PDU that a sender is invited to send.
const RECEIVE_LENGTH: u32 = 128 * 1024;
const COMMAND_LIMIT: usize = 64 * 1024;
/// How long a peer may be silent.
const IDLE: Duration = Duration::from_secs(300);

const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";

/// An accepted association.
struct Association {
    archive: Arc<Archive>,
    stream: TcpStream,
    calling: String,
    /// The transfer syntax of each accepted presentation context.
    contexts: HashMap<u8, String>,
    /// What has come of a command set.
    command: Vec<u8>,
    store: Option<Store>,
}

/// A C-STORE whose data set is coming in.
struct Store {
    request: Request,
    /// The object, or why it is not kept; then its data set is read and thrown away.
    object: Result<Incoming, Status>,
}

/// Serves one connection.
pub(super) async fn serve(archive: Arc<Archive>, mut stream: TcpStream) -> anyhow::Result<()> {
    let Some(first) = read(&mut stream).await? else { return Ok(()) };
    let Pdu::AssociationRQ(request) = first else {
        return abort(&mut stream, "something other than an association request").await;
    };
    let (answer, contexts) = negotiate(&request);
    write(&mut stream, &answer).await?;
    let calling = request.calling_ae_title;
    let command = Vec::new();
    Association { archive, stream, calling, contexts, command, store: None }.run().await
}

impl Association {
    async fn run(mut self) -> anyhow::Result<()> {
        while let Some(pdu) = read(&mut self.stream).await? {
            match pdu {
                Pdu::PData { data } => {
                    for value in data {
                        if let Err(error) = self.take(value).await {
                            return abort(&mut self.stream, &format!("{error:#}")).await;
                        }
                    }
                }
                Pdu::ReleaseRQ => {
                    write(&mut self.stream, &Pdu::ReleaseRP).await?;
                    return Ok(());
                }
                Pdu::AbortRQ { .. } => return Ok(()),
                _ => return abort(&mut self.stream, "an unexpected PDU").await,
            }
        }
        Ok(())
    }

    /// Takes one fragment.
    async fn take(&mut self, value: PDataValue) -> anyhow::Result<()> {
        let (context, is_last) = (value.presentation_context_id, value.is_last);
        ensure!(self.contexts.contains_key(&context), "data on a context that was not accepted");
        if value.value_type == PDataValueType::Data {
            return self.take_data(context, &value.data, is_last).await;
        }
        ensure!(self.store.is_none(), "a command before the end of a data set");
        self.command.extend_from_slice(&value.data);
        ensure!(self.command.len() <= COMMAND_LIMIT, "a command that is too long");
        if !is_last {
            return Ok(());
        }
        let request = Request::parse(&std::mem::take(&mut self.command))?;
        self.begin(context, request).await
    }

    async fn begin(&mut self, context: u8, request: Request) -> anyhow::Result<()> {
        match request.field {
            C_STORE_RQ if request.has_data_set => {
                let object = self.begin_object(context, &request).await;
                self.store = Some(Store { request, object });
                Ok(())
            }
            _ if request.has_data_set => bail!("a command 0x{:04X}", request.field),
            C_ECHO_RQ => self.respond(context, &request, Status::Success).await,
            _ => self.respond(context, &request, Status::UnrecognizedOperation).await,
        }
    }

    async fn begin_object(&self, context: u8, request: &Request) -> Result<Incoming, Status> {
        if !is_uid(&request.sop_class) || !is_uid(&request.sop_instance) {
            return Err(Status::CannotUnderstand);
        }
        let meta = Meta {
            sop_class: &request.sop_class,
            sop_instance: &request.sop_instance,
            transfer_syntax: &self.contexts[&context],
        };
        let begun = Incoming::begin(&self.archive.dir, meta).await;
        begun.map_err(|error| self.archive.cannot_write(&error))
    }

    async fn take_data(&mut self, context: u8, data: &[u8], last: bool) -> anyhow::Result<()> {
        let store = self.store.as_mut().context("a data set without a command")?;
        if let Ok(object) = &mut store.object
            && let Err(error) = object.write(data).await
        {
            store.object = Err(self.archive.cannot_write(&error));
        }
        match self.store.take_if(|_| last) {
            Some(store) => self.finish(context, store).await,
            None => Ok(()),
        }
    }

    /// Keeps a whole object, and only then acknowledges it.
    async fn finish(&mut self, context: u8, store: Store) -> anyhow::Result<()> {
        let kept = match store.object {
            Ok(object) => object.keep().await.map_err(|error| self.archive.cannot_write(&error)),
            Err(status) => Err(status),
        };
        let status = match kept {
            Ok(length) => {
                self.archive.stored(&store.request.sop_instance, &self.calling, length);
                Status::Success
            }
            Err(status) => status,
        };
        self.respond(context, &store.request, status).await
    }

    async fn respond(&mut self, context: u8, to: &Request, status: Status) -> anyhow::Result<()> {
        let value = PDataValue {
            presentation_context_id: context,
            value_type: PDataValueType::Command,
            is_last: true,
            data: to.response(status),
        };
        write(&mut self.stream, &Pdu::PData { data: vec![value] }).await
    }
}

impl Archive {
    fn stored(&self, instance: &str, calling: &str, length: u64) {
        let (title, kib) = (&self.title, length.div_ceil(1024));
        let calling = calling.escape_debug();
        say(format_args!("{title} stored {instance} from {calling} ({kib} KiB)"));
    }

    fn cannot_write(&self, error: &std::io::Error) -> Status {
        say(format_args!("{} cannot write: {error}", self.title));
        Status::OutOfResources
    }
}

/// Accepts Verification and any storage SOP class, in the first transfer syntax that will do.
fn negotiate(request: &AssociationRQ) -> (Pdu, HashMap<u8, String>) {
    let answers: Vec<_> = request.presentation_contexts.iter().map(answer).collect();
    let accepted = |answer: &&PresentationContextResult| {
        answer.reason == PresentationContextResultReason::Acceptance
    };
    let contexts = answers.iter().filter(accepted);
    let contexts = contexts.map(|answer| (answer.id, answer.transfer_syntax.clone())).collect();
    let acceptance = Pdu::AssociationAC(AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: request.application_context_name.clone(),
        presentation_contexts: answers,
        user_variables: vec![
            UserVariableItem::MaxLength(RECEIVE_LENGTH),
            UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS.to_owned()),
            UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION.to_owned()),
        ],
    });
    (acceptance, contexts)
}

fn answer(proposed: &PresentationContextProposed) -> PresentationContextResult {
    let class = proposed.abstract_syntax.as_str();
    let known = class == "1.2.840.10008.1.1" || class.starts_with("1.2.840.10008.5.1.4.1.1.");
    let found = proposed.transfer_syntaxes.iter().find(|syntax| takes(syntax));
    let (reason, transfer_syntax) = match (known, found) {
        (true, Some(syntax)) => (PresentationContextResultReason::Acceptance, syntax.as_str()),
        (true, None) => (
            PresentationContextResultReason::TransferSyntaxesNotSupported,
            IMPLICIT_VR_LITTLE_ENDIAN,
        ),
        (false, _) => {
            (PresentationContextResultReason::AbstractSyntaxNotSupported, IMPLICIT_VR_LITTLE_ENDIAN)
        }
    };
    PresentationContextResult {
        id: proposed.id,
        reason,
        transfer_syntax: transfer_syntax.to_owned(),
    }
}

/// Implicit and explicit VR little endian, RLE, and the JPEG, JPEG-LS, JPEG 2000 and MPEG families.
fn takes(transfer_syntax: &str) -> bool {
    let plain = [IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"];
    plain.contains(&transfer_syntax) || transfer_syntax.starts_with("1.2.840.10008.1.2.4.")
}

/// Reads one PDU; nothing at the end of the connection.
async fn read(stream: &mut TcpStream) -> anyhow::Result<Option<Pdu>> {
    let mut bytes = vec![0; 6];
    let first = timeout(IDLE, stream.read(&mut bytes)).await.context("a peer fell silent")??;
    if first == 0 {
        return Ok(None);
    }
    timeout(IDLE, stream.read_exact(&mut bytes[first..])).await.context("a peer fell silent")??;
    let length = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
    ensure!(length <= PDU_LIMIT, "a peer announced a PDU of {length} bytes");
    bytes.resize(6 + usize::try_from(length)?, 0);
    timeout(IDLE, stream.read_exact(&mut bytes[6..])).await.context("a peer fell silent")??;
    let pdu = read_pdu(bytes.as_slice(), PDU_LIMIT, true).context("a peer sent a broken PDU")?;
    Ok(Some(pdu.context("a peer sent a broken PDU")?))
}

async fn write(stream: &mut TcpStream, pdu: &Pdu) -> anyhow::Result<()> {
    let mut bytes = Vec::with_capacity(512);
    write_pdu(&mut bytes, pdu)?;
    Ok(timeout(IDLE, stream.write_all(&bytes)).await.context("a peer does not read")??)
}

/// Ends an association whose peer sent `what`.
async fn abort(stream: &mut TcpStream, what: &str) -> anyhow::Result<()> {
    let source = AbortRQSource::ServiceProvider(AbortRQServiceProviderReason::UnexpectedPdu);
    write(stream, &Pdu::AbortRQ { source }).await?;
    bail!("aborted: a peer sent {what}")
}
