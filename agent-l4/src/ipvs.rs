//! The kernel's load balancer, spoken to over generic netlink.
