// The panel's product with 256-bit instructions, for processors that have them; compiled with -mavx2 -mfma.
#if defined(__AVX2__) && defined(__FMA__)
#define Eigen EigenForAvx2
#define TIDEMARK_GEMM GemmAvx2
#include "kernels/host/gemm_serial.h"
#endif
