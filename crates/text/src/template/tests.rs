//! Templates that real models bring, against what `transformers` renders for them.

use super::*;

fn tokens() -> BTreeMap<&'static str, String> {
    BTreeMap::from([("bos_token", "<s>".to_owned()), ("eos_token", "</s>".to_owned())])
}

fn render(source: &str, messages: &[Message], generation_prompt: bool) -> String {
    ChatTemplate::new(source, tokens()).expect("compiles").render(messages, generation_prompt).expect("renders")
}

/// SmolLM2-Instruct's.
const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Llama-2-chat's, which wants alternating roles.
const LLAMA2: &str = "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

#[test]
fn chatml_sets_its_default_system_message_only_where_none_is() {
    let hi = [Message::user("Hi")];
    let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
        <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(render(CHATML, &hi, true), expected);
    let own = [Message::system("Be brief."), Message::user("Hi")];
    let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n";
    assert_eq!(render(CHATML, &own, false), expected);
}

#[test]
fn llama2_keeps_its_order_and_refuses_with_its_own_words() {
    let chat = [Message::system("S"), Message::user(" a "), Message::assistant("b"), Message::user("c")];
    let expected = "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\n a [/INST] b </s><s>[INST] c [/INST]";
    assert_eq!(render(LLAMA2, &chat, true), expected);
    let template = ChatTemplate::new(LLAMA2, tokens()).expect("compiles");
    let error = template.render(&[Message::user("a"), Message::user("b")], true).expect_err("refused").to_string();
    assert!(error.contains("roles must alternate"), "{error}");
}

#[test]
fn blocks_alone_on_a_line_leave_no_trace() {
    let source =
        "{%- for m in messages %}\n    {% if m.role == 'user' %}\nU {{ m.content }}\n    {% endif %}\n{% endfor %}\n";
    assert_eq!(render(source, &[Message::user("a"), Message::user("b")], false), "U a\nU b\n");
}

#[test]
fn json_and_dates_are_pythons() {
    let source =
        "{{ {'a': '<é>', 'b': [1, true, none]} | tojson }}|{{ [1] | tojson(indent=2) }}|{{ strftime_now('%Y') }}";
    let text = render(source, &[Message::user("x")], false);
    let (json, year) = text.rsplit_once('|').expect("two parts");
    assert_eq!(json, "{\"a\": \"<é>\", \"b\": [1, true, null]}|[\n  1\n]");
    assert!(year.parse::<u32>().is_ok_and(|y| y > 2000), "{year}");
}

#[test]
fn loops_can_be_left_and_methods_are_pythons() {
    let source = "{% for m in messages %}{% if m.content.startswith('stop') %}{% break %}{% endif %}{{ m['content'].upper() }}{% endfor %}{{ messages[::-1][0].content.split(' ')[-1] }}";
    assert_eq!(render(source, &[Message::user("a"), Message::user("stop it")], false), "Ait");
}

#[test]
fn the_plain_template_is_as_documented() {
    let chat = [Message::system("Be brief."), Message::user("a\n"), Message::assistant("b"), Message::user("c")];
    let expected = "Be brief.\n\nUser:\na\n\nAssistant:\nb</s>\nUser:\nc\n\nAssistant:\n";
    assert_eq!(render(&plain_template(false), &chat, true), expected);
    assert_eq!(render(&plain_template(true), &chat, true), format!("<s>{expected}"));
}

#[test]
fn a_broken_template_is_refused_when_it_is_read() {
    assert!(matches!(ChatTemplate::new("{% for %}", tokens()), Err(TextError::Template(_))));
}
