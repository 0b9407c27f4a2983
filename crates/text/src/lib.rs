//! Messages to tokens and back: the one tokenizer and chat template that trainer and engines share.
