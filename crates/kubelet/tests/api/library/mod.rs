//! The same actions of a client, played to our server and to a kubelet's: what the
//! client sees must be the same, but for what [`differences`] names.
//!
//! Theirs is `tests/tools/cri-streaming/kubelet`: Kubernetes' own streaming code, put
//! together as in a kubelet. Ours is a whole process of the framework over the mock's
//! processes. So both run the same commands on this machine.
//!
//! That Kubernetes' own clients understand ours is shown elsewhere: kubectl through a
//! real API server, which speaks to the node by WebSocket, by SPDY and as a translator,
//! in `real_processes/verbs`; what client-go sends, byte by byte, in `recorded` of
//! `kubelet-streams`.
//!
//! ```text
//! scenes ──▶ play ──▶ Record ──▶ Seen ─┐
//!    └─────▶ play ──▶ Record ──▶ Seen ─┴─▶ court, with the differences
//! ```

mod answers;
mod court;
mod differences;
mod exec;
mod forward;
mod frames;
mod legacy;
mod peers;
mod player;
mod record;
mod scene;
mod websocket;
