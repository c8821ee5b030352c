//! What layer 4 needs of the machine beside IPVS.
