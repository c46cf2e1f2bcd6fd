//! `/_sandbox/faults`: the switchboard over HTTP, outside the served API's own
//! authentication and faults.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use crate::faults::{Faults, Rule};

/// GET lists the rules in force, POST adds one, DELETE clears them.
pub fn routes(faults: Faults) -> Router {
    let list = |State(faults): State<Faults>| async move { Json(faults.rules()) };
    let add = |State(faults): State<Faults>, Json(rule): Json<Rule>| async move {
        faults.add(rule);
        Json(faults.rules())
    };
    let clear = |State(faults): State<Faults>| async move {
        faults.clear();
        Json(faults.rules())
    };
    Router::new()
        .route("/_sandbox/faults", get(list).post(add).delete(clear))
        .with_state(faults)
}
