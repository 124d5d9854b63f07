//! Fed by a scripted API server.
