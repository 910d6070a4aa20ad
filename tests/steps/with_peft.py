"""Low-rank adapters of peft: https://github.com/huggingface/peft."""

import peft
import torch
import transformers as hf

from tests.steps.with_transformers import SMALL, WORDS, causal


def adapted(model, targets, **options):
    return peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules=targets, lora_dropout=0.05, **options))


def lora_llama(batch):
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, num_key_value_heads=2))
    return causal(adapted(model, ["q_proj", "v_proj"]), batch)


def lora_llama_bfloat16_checkpointed(batch):
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, num_key_value_heads=2)).to(torch.bfloat16)
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    return causal(adapted(model, ["q_proj", "v_proj"]), batch, padded=True)


def lora_gpt2(batch):
    model = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=WORDS, n_embd=128, n_layer=3, n_head=4))
    return causal(adapted(model, ["c_attn"], fan_in_fan_out=True), batch)


def lora_qwen2_all_linear(batch):
    model = hf.Qwen2ForCausalLM(hf.Qwen2Config(**SMALL, num_key_value_heads=2))
    return causal(adapted(model, "all-linear"), batch)
