//! The Llama family on CPUs, served by the forward pass of learn, with run-time adapters.
