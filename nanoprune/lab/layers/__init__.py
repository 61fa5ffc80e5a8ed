"""More layers, for larger and imported networks, with the same interface as those of `nanoprune.nn`."""

from nanoprune.lab.layers import record_norms as record_norms  # registers the layers with DP-SGD
from nanoprune.lab.layers.attention import Attention as Attention
from nanoprune.lab.layers.attention import self_attention as self_attention
from nanoprune.lab.layers.avgpool import AvgPool as AvgPool
from nanoprune.lab.layers.batchnorm import BatchNorm as BatchNorm
from nanoprune.lab.layers.depthwise import DepthwiseConv2D as DepthwiseConv2D
from nanoprune.lab.layers.dropout import Dropout as Dropout
from nanoprune.lab.layers.embedding import Embedding as Embedding
from nanoprune.lab.layers.gelu import GELU as GELU
from nanoprune.lab.layers.globalavgpool import GlobalAvgPool as GlobalAvgPool
from nanoprune.lab.layers.groupnorm import GroupNorm as GroupNorm
from nanoprune.lab.layers.imagetokens import ImageTokens as ImageTokens
from nanoprune.lab.layers.layernorm import LayerNorm as LayerNorm
from nanoprune.lab.layers.pointwise import Pointwise as Pointwise
from nanoprune.lab.layers.positions import PositionalEncoding as PositionalEncoding
from nanoprune.lab.layers.relu6 import ReLU6 as ReLU6
from nanoprune.lab.layers.residual import Residual as Residual
from nanoprune.lab.layers.scaling import ColumnScaling as ColumnScaling
from nanoprune.lab.layers.standardise import Standardise as Standardise
from nanoprune.lab.layers.tanh import Tanh as Tanh
from nanoprune.lab.layers.tokendense import TokenDense as TokenDense
from nanoprune.lab.layers.tokenpool import LastToken as LastToken
from nanoprune.lab.layers.tokenpool import TokenMean as TokenMean
