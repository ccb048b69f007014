//! Ops that each do one thing, for the tests of the host: what it gives, what it takes, what it forbids.

mod forbidden;
mod measured;
mod network;
mod plain;
mod said;
mod shapes;
mod stateful;

use forbidden::{busy, fail, hog, panics, retry_then, spin, unlisted};
use measured::{drain, next, pour};
use network::{blab, fetch, may_reveal, peek, post_large, reveal_secret};
use plain::{add, big, constant, digest, echo, noop, relay, text};
use said::{chatty, log_all, who};
use shapes::{branch, fallback, fan, item, join, listed, maybe, opens, probe_many, reads_twice, stored, touch};
use stateful::{count_up, keep, load_model, register_model, remembers};

opyard_guest::component! {
    ops: [
        add, big, blab, branch, busy, chatty, constant, count_up, digest, drain, echo, fail, fallback, fan, fetch, hog,
        item, join, keep, listed, load_model, log_all, may_reveal, maybe, next, noop, opens, panics, peek, post_large, pour,
        probe_many, reads_twice, register_model, relay, remembers, retry_then, reveal_secret, spin, stored, text,
        touch, unlisted, who,
    ]
}
