//! Faults of routes and of what may pass.

use super::contract::faults;

faults! {
    default_route::DefaultRoute,
    dns::Dns,
    forward::ForwardPolicy,
    partition::Partition,
    pod::Pod,
    policy_route::PolicyRoute,
    route_blackhole::RouteBlackhole,
}

pub(crate) use pod::TABLE as POD_TABLE;
