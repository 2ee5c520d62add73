"""The fold of Koopman students: both ends of the latent space go into the products beside them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from onestride.engine.affine import affine, compose, dense, exact, spectral_matrix, vcat
from onestride.engine.fold.parts import Parts, beside_context
from onestride.methods.koopman import FDKLayer, KoopmanStudent, PlainLayer, StaticFactorizedLayer


def fold_koopman(student: KoopmanStudent) -> Parts:
    """Return the encoder's first layer, what lies between, and the decoder's last."""
    first = beside_context(student.encoder.plan, student.encoder.context)
    return Parts(first, KoopmanBody(student), affine(student.decoder[6]))


class KoopmanBody(nn.Module):
    """From the encoder's first pre-activations (N, hidden) to what the decoder's last layer sees (N, hidden)."""

    def __init__(self, student: KoopmanStudent) -> None:
        super().__init__()
        encoder, decoder, operator = list(student.encoder.rest), student.decoder, student.operator
        # The encoder's layers come in threes: norm, SiLU, product.
        self.norms = nn.ModuleList(exact(norm) for norm in (*encoder[::3], decoder[1], decoder[4]))
        self.encode = nn.ModuleList(dense(affine(product)) for product in encoder[2:-1:3])
        self.decode = dense(affine(decoder[3]))
        into, out = affine(encoder[-1]), affine(decoder[0])  # both ends of the latent space
        self.lift = self.gains = None
        if isinstance(operator, FDKLayer):
            self.lift = dense(
                compose(vcat(affine(operator.Q), affine(operator.gamma[0])), into)
            )  # [Q z | gains' first]
            self.gains = dense(affine(operator.gamma[2]))
            self.carry = dense(compose(out, affine(operator.P)))
        elif isinstance(operator, PlainLayer):
            self.lift = dense(compose(affine(operator.net[0]), into))
            self.carry = dense(compose(out, affine(operator.net[2])))
        else:
            static = spectral_matrix(operator) if isinstance(operator, StaticFactorizedLayer) else affine(operator.A)
            self.carry = dense(compose(out, compose(static, into)))

    def forward(self, h: Tensor) -> Tensor:
        enter, *leave, arrive, decoded = self.norms
        h = F.silu(enter(h))
        for encode, norm in zip(self.encode, leave, strict=True):
            h = F.silu(norm(encode(h)))
        if self.lift is not None:
            h = self.lift(h)
            if self.gains is None:
                h = F.silu(h)
            else:
                latent = self.gains.out_features
                h = h[:, :latent] * self.gains(F.silu(h[:, latent:]))
        return F.silu(decoded(self.decode(F.silu(arrive(self.carry(h))))))
