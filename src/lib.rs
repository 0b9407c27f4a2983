//! hone, the app.
