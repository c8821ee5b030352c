//! What layer 4 needs of the machine beside IPVS.
//!
//! Addresses, interfaces and routing ([`route`]), frames that tell a network who has an address
//! ([`packet`]), kernel settings ([`sysctl`]), the one own table of packet marks and source
//! translation ([`nft`]), the table of live connections ([`connections`]), and what the process may
//! do ([`capabilities`]).
//!
//! Every call blocks, and acts in the network namespace of the calling thread. What is wanted is
//! decided elsewhere: nothing here knows a service.

pub mod capabilities;
pub mod connections;
pub mod nft;
pub mod packet;
pub mod route;
pub mod sysctl;
