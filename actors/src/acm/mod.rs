//! Advanced Cluster Management: takes applications, turns what users want into constraints, and tells how things are.
//!
//! Any member can host it: a hub does, and so does every agent, so that a cluster that is cut off still answers.
//!
//! | module | concept |
//! |---|---|
//! | [`api`] | the HTTP API: roles, limits, refusals |
//! | [`fleet`] | what the API asks of the process behind it |
//! | [`access`] | who may use the API where no tokens are given out |
//! | [`answers`] | the answers of a member of the fleet |
//! | [`home`] | the home of applications as an actor: how it is restored, and what happens around it |
//! | [`serve`] | the API server of a member |
//! | [`apps`] | applications as their home knows them |
//! | [`clusters`] | clusters as their leads describe them |

// An `ApiError` carries all that a person needs; it is made at most once a request.
#![allow(clippy::result_large_err)]

pub mod access;
pub mod answers;
pub mod api;
pub mod apps;
pub mod clusters;
pub mod fleet;
pub mod home;
pub mod serve;
