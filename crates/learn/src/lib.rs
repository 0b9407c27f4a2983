//! Everything with tensors: the Llama block forward and backward, LoRA, SFT, reward model, PPO.
