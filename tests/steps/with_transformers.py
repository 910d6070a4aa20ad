"""Language, speech and image models of transformers: https://github.com/huggingface/transformers."""

import torch
import transformers as hf

from tests.steps.training import updating

WORDS = 4000
SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}


def tokens(batch, length=128):
    return torch.randint(5, WORDS, (batch, length), device="cuda")


def causal(model, batch, *, padded=False, dtype=None):
    """Next words of random texts."""
    model = model.to("cuda", dtype)

    def loss():
        words = tokens(batch)
        mask = torch.ones_like(words) if padded else None
        return model(input_ids=words, attention_mask=mask, labels=words, use_cache=False).loss

    return updating(model, loss)


def gpt2(batch):
    return causal(hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=WORDS, n_embd=128, n_layer=3, n_head=4)), batch)


def gpt2_eager_attention(batch):
    config = hf.GPT2Config(vocab_size=WORDS, n_embd=128, n_layer=3, n_head=4, attn_implementation="eager")
    return causal(hf.GPT2LMHeadModel(config), batch, padded=True)


def gpt2_checkpointed(batch):
    model = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=WORDS, n_embd=128, n_layer=3, n_head=4))
    model.gradient_checkpointing_enable()
    return causal(model, batch)


def llama(batch):
    return causal(hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, num_key_value_heads=2)), batch)


def llama_bfloat16_padded(batch):
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, num_key_value_heads=2))
    return causal(model, batch, padded=True, dtype=torch.bfloat16)


def qwen2(batch):
    return causal(hf.Qwen2ForCausalLM(hf.Qwen2Config(**SMALL, num_key_value_heads=2)), batch)


def bert(batch):
    model = hf.BertForSequenceClassification(hf.BertConfig(**SMALL)).cuda()

    def loss():
        labels = torch.zeros(batch, dtype=torch.long, device="cuda")
        return model(input_ids=tokens(batch), labels=labels).loss

    return updating(model, loss)


def bert_padded(batch):
    """Masked words of padded texts, whose mask is known."""
    model = hf.BertForMaskedLM(hf.BertConfig(**SMALL)).cuda()

    def loss():
        words = tokens(batch)
        mask = torch.ones_like(words)
        mask[:, 100:] = 0
        return model(input_ids=words, attention_mask=mask, labels=words).loss

    return updating(model, loss)


def t5(batch):
    config = hf.T5Config(vocab_size=WORDS, d_model=128, d_ff=256, d_kv=32, num_layers=2, num_heads=4)
    config.decoder_start_token_id = 0
    model = hf.T5ForConditionalGeneration(config).cuda()
    return updating(model, lambda: model(input_ids=tokens(batch), labels=tokens(batch, 64), use_cache=False).loss)


def whisper(batch):
    sizes = {"d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    config = hf.WhisperConfig(vocab_size=WORDS, max_source_positions=200, **sizes, **heads, **ids)
    model = hf.WhisperForConditionalGeneration(config).cuda()

    def loss():
        features = torch.randn(batch, 80, 400, device="cuda")
        return model(input_features=features, labels=tokens(batch, 32), use_cache=False).loss

    return updating(model, loss)


def clip(batch):
    """Its loss is of all pairs of a batch."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**sizes, "vocab_size": WORDS, "max_position_embeddings": 32, "eos_token_id": 2}
    image = {**sizes, "image_size": 64, "patch_size": 16}
    model = hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=image, projection_dim=64)).cuda()

    def loss():
        images = torch.randn(batch, 3, 64, 64, device="cuda")
        return model(input_ids=tokens(batch, 32), pixel_values=images, return_loss=True).loss

    return updating(model, loss)


def vit(batch):
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
    model = hf.ViTForImageClassification(hf.ViTConfig(image_size=64, patch_size=8, **sizes)).cuda()

    def loss():
        images = torch.randn(batch, 3, 64, 64, device="cuda")
        return model(pixel_values=images, labels=torch.zeros(batch, dtype=torch.long, device="cuda")).loss

    return updating(model, loss)
