"""ONNX graphs written with onnx.helper alone, as PyTorch's exporters write them: no code of the package has a part."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


class Writer:
    """A graph in the making: each method adds a layer after the last one. shape: of one sample, (C, H, W) or (F,)."""

    def __init__(self, shape, seed=0, opset=17, batch="N"):
        self.input_shape, self.shape, self.opset, self.batch = shape, shape, opset, batch
        self.rng, self.value = np.random.default_rng(seed), "input"
        self.nodes, self.tensors, self.count = [], [], 0

    def constant(self, array, kind=np.float32):
        self.count += 1
        self.tensors.append(numpy_helper.from_array(np.asarray(array, kind), f"c{self.count}"))
        return f"c{self.count}"

    def node(self, op, *inputs, shape=None, before=None, **attributes):
        self.count += 1
        inputs = [self.value if before is None else before, *inputs] if before != "" else list(inputs)
        self.value = f"v{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [self.value], **attributes))
        self.shape = self.shape if shape is None else shape
        return self

    def normal(self, *shape, scale=1.0):
        return self.constant(scale * self.rng.standard_normal(shape))

    def conv(self, kernels, size=3, stride=1, padding=0, bias=True, depthwise=False):
        C, H, W = self.shape
        kernels, group = (C, C) if depthwise else (kernels, 1)
        weights = [self.normal(kernels, C // group, size, size, scale=(C // group * size**2) ** -0.5)]
        weights += [self.normal(kernels)] if bias else []
        sizes = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [padding] * 4, "group": group}
        H, W = ((side + 2 * padding - size) // stride + 1 for side in (H, W))
        return self.node("Conv", *weights, shape=(kernels, H, W), **sizes, dilations=[1, 1])

    def dense(self, units, form="gemm"):
        (F,) = self.shape
        W, b = self.rng.standard_normal((units, F)) * F**-0.5, self.rng.standard_normal(units)
        if form == "gemm":
            return self.node("Gemm", self.constant(W), self.constant(b), shape=(units,), transB=1)
        self.node("MatMul", self.constant(W.T), shape=(units,))
        return self.node("Add", self.constant(b))

    def batchnorm(self, epsilon=1e-5):
        C = self.shape[0]
        of = [self.normal(C), self.normal(C), self.normal(C, scale=0.3)]
        var = self.constant(self.rng.uniform(0.5, 2, C))
        return self.node("BatchNormalization", *of, var, epsilon=epsilon)

    def act(self, op):
        if op == "Clip":
            return self.node("Clip", self.constant(0), self.constant(6))
        return self.node(op)

    def pool(self, op, size, stride=None, padding=0):
        stride = stride or size
        sides = [(side + 2 * padding - size) // stride + 1 for side in self.shape[1:]]
        sizes = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
        return self.node(op, shape=(self.shape[0], *sides), **sizes)

    def flatten(self, form="Flatten"):
        size = int(np.prod(self.shape))
        if form == "Flatten":
            return self.node("Flatten", axis=1, shape=(size,))
        if form == "Reshape":
            return self.node("Reshape", self.constant([-1, size], np.int64), shape=(size,))
        image = self.value  # x.view(x.size(0), -1)
        self.node("Shape").node("Gather", self.constant(0, np.int64), axis=0)
        self.node("Unsqueeze", self.constant([0], np.int64))
        self.node("Concat", self.constant([-1], np.int64), axis=0)
        return self.node("Reshape", self.value, before=image, shape=(size,))

    def mean(self, form="GlobalAveragePool"):
        C = self.shape[0]
        if form == "GlobalAveragePool":
            return self.node("GlobalAveragePool", shape=(C, 1, 1)).flatten()
        return self.node("ReduceMean", axes=[-1, -2], keepdims=0, shape=(C,))

    def model(self, output=None):
        ends = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [self.batch, *self.input_shape])]
        outs = [helper.make_tensor_value_info(output or self.value, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "net", ends, outs, self.tensors)
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", self.opset)])

    def save(self, path):
        path.write_bytes(self.model().SerializeToString())
        return path


def run(path, x):
    """What onnxruntime computes of x (N, ...)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def residual_network(seed=0):
    """A small ResNet: a block with the identity beside it, one with a convolution beside it."""
    net = Writer((3, 9, 9), seed).conv(4, padding=1).batchnorm().act("Relu")
    for kernels, stride in ((4, 1), (6, 2)):
        before, shape = net.value, net.shape
        net.conv(kernels, stride=stride, padding=1, bias=False).batchnorm().act("Relu").conv(kernels, padding=1)
        body, after = net.value, net.shape
        if stride > 1:
            net.value, net.shape = before, shape
            net.conv(kernels, 1, stride).batchnorm()
            before = net.value
        net.node("Add", before, before=body, shape=after).act("Relu")
    return net.mean().dense(5)
