"""Steps of large models, as people write them for a GPU, built from packages of others with random weights.

Each imports what it needs itself, as a file of its own would.
"""

import torch

CONTEXT = 512


def gpt2_small(batch):
    """GPT-2 of 124 million parameters, trained under float16 autocast with a GradScaler."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config()).cuda()
    optimizer, scaler = torch.optim.AdamW(model.parameters(), lr=1e-4), torch.amp.GradScaler("cuda")

    def step():
        tokens = torch.randint(0, 50257, (batch, CONTEXT), device="cuda")
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = model(tokens, labels=tokens).loss
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def lora_of_7b(batch):
    """A decoder of 6.7 billion parameters in bfloat16, of which LoRA trains 8.4 million."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    model = LlamaForCausalLM(LlamaConfig(**sizes, use_cache=False)).to(torch.bfloat16).cuda()
    model = get_peft_model(model, LoraConfig(r=16, target_modules=["q_proj", "v_proj"]))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-4)

    def step():
        tokens = torch.randint(0, 32000, (batch, CONTEXT), device="cuda")
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()

    return step
