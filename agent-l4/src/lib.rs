//! Gantry's layer 4 agent as a library.
//!
//! [`ipvs`] speaks to the kernel's load balancer, [`host`] to the rest of the machine that layer 4 needs: addresses,
//! neighbours, sysctls, one nft table.

pub mod host;
pub mod ipvs;
