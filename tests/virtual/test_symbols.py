"""What the virtual card does for the functions that nobody wrote by hand."""

import pytest

from bench.virtual.symbols import is_answered, kind_of, stubs

KINDS = {
    "creates": (
        "cudaStreamCreateWithPriority",
        "cudaEventCreateWithFlags",
        "cublasCreate_v2",
        "cublasLtMatmulDescCreate",
        "cusolverDnCreateParams",
        "cusparseCreateCsr",
        "cusparseSpSV_createDescr",
    ),
    "sizes": ("cusolverDnSpotrf_bufferSize", "cusolverDnXgetrf_bufferSize", "cusparseSpMM_bufferSize"),
    "refused": (
        "cudaGraphInstantiateWithFlags",
        "cudaIpcGetMemHandle",
        "cudaMallocFromPoolAsync",
        "cusolverDnSnew_bufferSize",
        "cusparseSpGEMM_compute",
        "cusparseSpMatGetSize",
        "cusparseXcsrgeam2Nnz",
        "cusparseCreateIdentityPermutation",
        "ncclCommSplit",
        "cublasLtMatmulAlgoInit",
    ),
    "works": (
        "cudaMemsetAsync",
        "cudaStreamQuery",
        "cublasSgemm_v2",
        "cublasSetSmCountTarget",
        "cublasSgetrfBatched",
        "cufftSetAutoAllocation",
        "cufftXtExec",
        "cusolverDnSpotrf",
        "cusparseSpMV",
        "ncclAllReduce",
        "cudnnRNNForward",
    ),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in KINDS.items() for name in names])
def test_a_name_tells_what_its_function_does(kind, name):
    assert is_answered(name)
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    "name",
    [
        "nvrtcCompileProgram",  # compiles on the host
        "cuFileRead",
        "cuptiSubscribe",
        "cusparseGetErrorString",  # a text
        "cudnnCreateTensorDescriptor",  # the real cuDNN's
        "cudnnGetRNNTempSpaceSizes",
        "cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize",
        "cudnnSetRNNDescriptor_v8",
        "malloc",
        "currentTime",
    ],
)
def test_what_needs_no_device_is_left_to_its_library(name):
    assert not is_answered(name)


def test_the_code_of_each_kind():
    names = ["cublasCreate_v2", "cusolverDnXpotrf_bufferSize", "cudaIpcGetMemHandle", "cublasSgemm_v2", "malloc"]
    names.append("ncclGroupEnd")
    code = stubs(names)
    assert "STUB int cublasCreate_v2(void **made) { *made = new_handle(); return 0; }\n" in code
    assert 'STUB int cudaIpcGetMemHandle(void) { return refuse("cudaIpcGetMemHandle", 801); }\n' in code
    assert "STUB int cublasSgemm_v2(void) { content_is_computed(); return 0; }\n" in code
    assert "STUB int ncclGroupEnd(void) { return 0; }\n" in code
    assert "*(size_t *)a8 = 0; *(size_t *)a9 = 0; return 0; }\n" in code
    assert "malloc" not in code
    assert stubs(reversed(names)) == code
