"""Trains a small Llama from scratch with transformers and a DataLoader, as a person would write it."""
import os

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import LlamaConfig, LlamaForCausalLM

os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Blocks(Dataset):
    """Blocks of tokens; the labels are the tokens, which the model shifts by itself."""

    def __init__(self, count, length, vocab):
        self.tokens = torch.randint(vocab, (count, length), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


def main():
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True
    config = LlamaConfig(vocab_size=512, hidden_size=64, intermediate_size=176, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True, use_cache=False)
    model = LlamaForCausalLM(config).to("cuda")
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    loader = iter(DataLoader(Blocks(64, 64, 512), batch_size=4, shuffle=True))
    accumulation = 2

    for step in range(3):
        for _ in range(accumulation):
            batch = next(loader)
            inputs = {name: tensor.to("cuda") for name, tensor in batch.items()}
            with torch.autocast("cuda", dtype=torch.bfloat16):
                outputs = model(**inputs)
                loss = outputs.loss / accumulation
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step}: loss {loss.item() * accumulation:.4f}")


if __name__ == "__main__":
    main()
