//! As a real API server writes them.
