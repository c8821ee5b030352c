//! The address of a packet socket, `sockaddr_ll` (packet(7)).
//!
//! Neither rustix nor socket2 knows it, so this file hands it to rustix itself: the one place of
//! this crate with `unsafe` in it.

#![allow(unsafe_code, reason = "no crate in use has a safe sockaddr_ll")]

use std::mem;
use std::ptr;

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketAddrAny};

/// The link of an interface. A frame that is sent there says itself to whom it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    pub(super) index: u32,
}

/// Where a packet was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) index: u32,
    /// This machine has sent it.
    pub(super) outgoing: bool,
}

const LENGTH: SocketAddrLen = 20;
const _: () = assert!(mem::size_of::<libc::sockaddr_ll>() == 20);
/// What the kernel fills in at least: all but the hardware address.
const SHORTEST: usize = mem::offset_of!(libc::sockaddr_ll, sll_addr);

// SAFETY: `call` gets a pointer to a whole `sockaddr_ll` that lives until it has returned, and its
// length.
unsafe impl SocketAddrArg for Destination {
    unsafe fn with_sockaddr<R>(
        &self,
        call: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let address = libc::sockaddr_ll {
            sll_family: AddressFamily::PACKET.as_raw(),
            sll_protocol: 0,
            sll_ifindex: self.index.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        call(ptr::from_ref(&address).cast(), LENGTH)
    }
}

/// What the kernel says of a packet that was received; absent: it is none of a packet socket.
pub(super) fn origin(from: &SocketAddrAny) -> Option<Origin> {
    let length = usize::try_from(from.addr_len()).ok()?;
    if from.address_family() != AddressFamily::PACKET || length < SHORTEST {
        return None;
    }
    // SAFETY: a `SocketAddrAny` points to a buffer as large as any socket address, of which
    // `addr_len` bytes are filled in. Those hold the fields of `sockaddr_ll` that are read here, all
    // integers, at their offsets; the read does not depend on alignment.
    let (index, kind) = unsafe {
        let address = from.as_ptr().cast::<libc::sockaddr_ll>();
        let index = ptr::addr_of!((*address).sll_ifindex).read_unaligned();
        let kind = ptr::addr_of!((*address).sll_pkttype).read_unaligned();
        (index, kind)
    };
    Some(Origin { index: u32::try_from(index).ok()?, outgoing: kind == libc::PACKET_OUTGOING })
}
