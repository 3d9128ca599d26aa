"""Our Llama-type stack against transformers' own, weight for weight."""

import torch
from transformers import LlamaConfig, LlamaModel

from memlm.nn.config import StackConfig
from memlm.nn.transformer import Transformer


def test_what_was_first_evaluated_can_still_be_trained():
    stack = Transformer(StackConfig(kind="transformer", width=8, heads=2, layers=1), 23)
    x_1TD = torch.randn(1, 23, 8)
    with torch.inference_mode():
        evaluated = stack(x_1TD)
    trained = stack(x_1TD)
    trained.square().sum().backward()
    assert torch.equal(trained, evaluated)
    assert all(p.grad is not None for p in stack.parameters())


def test_equal_to_transformers_llama():
    D, H, L, T = 32, 4, 2, 9
    ours = Transformer(StackConfig(kind="transformer", width=D, heads=H, layers=L), T)
    theirs = LlamaModel(
        LlamaConfig(
            hidden_size=D,
            intermediate_size=4 * D,
            num_hidden_layers=L,
            num_attention_heads=H,
            vocab_size=10,
            max_position_embeddings=T,
        )
    ).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for block, layer in zip(ours.blocks, theirs.layers, strict=True):
            for norm in (block.norm_attention, block.norm_mlp):
                norm.weight.normal_(1, 0.1)
            attention = layer.self_attn
            for part, weight in zip(
                (attention.q_proj, attention.k_proj, attention.v_proj), block.attention.qkv.weight.chunk(3), strict=True
            ):
                part.weight.copy_(weight)
            attention.o_proj.weight.copy_(block.attention.out.weight)
            gate, up = block.mlp.gate_up.weight.chunk(2)
            layer.mlp.gate_proj.weight.copy_(gate)
            layer.mlp.up_proj.weight.copy_(up)
            layer.mlp.down_proj.weight.copy_(block.mlp.down.weight)
            layer.input_layernorm.weight.copy_(block.norm_attention.weight)
            layer.post_attention_layernorm.weight.copy_(block.norm_mlp.weight)
        theirs.norm.weight.copy_(ours.norm.weight)
        x = torch.randn(2, T, D)
        torch.testing.assert_close(ours(x), theirs(inputs_embeds=x).last_hidden_state, rtol=1e-5, atol=1e-5)
