"""CodePrior: shape, causality by perturbation and by gradient, cache against no cache."""

import pytest
import torch

from distill.models.prior import CodePrior, KeyValueCache


def prior(seed: int = 0, **changes: int) -> CodePrior:
    torch.manual_seed(seed)
    sizes = {
        "codebook_size": 16,
        "seq_len": 24,
        "num_quantizers": 3,
        "hidden_size": 32,
        "num_layers": 3,
        "num_heads": 4,
    }
    return CodePrior(**{**sizes, **changes}).eval()


def test_logits_have_one_row_a_token_and_one_column_a_code() -> None:
    assert prior()(torch.zeros(2, 9, dtype=torch.int64)).shape == (2, 9, 16)
    assert prior(num_special_tokens=2)(torch.full((1, 1), 17)).shape == (1, 1, 18)


def test_the_future_has_no_influence() -> None:
    model = prior()
    tokens = torch.randint(16, (2, 24), generator=torch.Generator().manual_seed(1))
    before = model(tokens)
    for position in (1, 7, 23):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 5) % 16
        after = model(changed)
        assert torch.equal(before[:, :position], after[:, :position])
        assert not torch.allclose(before[:, position], after[:, position])


def test_gradients_do_not_flow_from_the_future() -> None:
    model = prior()
    embedded: list[torch.Tensor] = []
    model.token_embedding.register_forward_hook(lambda *args: embedded.append(args[2]) or args[2].retain_grad())
    model(torch.zeros(1, 24, dtype=torch.int64))[0, 10].sum().backward()
    gradient = embedded[0].grad
    assert gradient is not None
    assert gradient[0, 11:].abs().max() == 0
    assert (gradient[0, :11].abs().sum(dim=-1) > 0).all()


@pytest.mark.parametrize("first", [1, 2, 3, 11, 23])
@pytest.mark.parametrize("stride", [1, 4])
def test_the_cache_changes_nothing(first: int, stride: int) -> None:
    model = prior()
    tokens = torch.randint(16, (3, 24), generator=torch.Generator().manual_seed(2))
    cache = KeyValueCache(model, 3)
    pieces = [model(tokens[:, :first], cache)]
    pieces += [model(tokens[:, start : start + stride], cache) for start in range(first, 24, stride)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), rtol=0, atol=1e-5)


def test_too_many_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at most 24 tokens, found 25"):
        prior()(torch.zeros(1, 25, dtype=torch.int64))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model = CodePrior(16, 24, 3, 32, 2, 4, dropout=0.5)
    tokens = torch.zeros(1, 24, dtype=torch.int64)
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))
