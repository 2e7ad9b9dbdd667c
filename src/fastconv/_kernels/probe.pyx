"""What this processor can run.  Compiled for the baseline: it must be safe anywhere."""

cdef extern from *:
    """
    #if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(__i386__))
    #include <cpuid.h>
    #define FC_HAS(feature) (__builtin_cpu_init(), __builtin_cpu_supports(feature) != 0)
    static int fc_has_f16c(void) {
        unsigned a, b, c, d;
        return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    }
    static int fc_has_avx2(void) {
        return FC_HAS("avx2") && FC_HAS("fma") && FC_HAS("bmi") && FC_HAS("bmi2") && fc_has_f16c();
    }
    static int fc_has_avx512(void) {
        return fc_has_avx2() && FC_HAS("avx512f") && FC_HAS("avx512bw") && FC_HAS("avx512cd") && FC_HAS("avx512dq")
            && FC_HAS("avx512vl");
    }
    #else
    static int fc_has_avx2(void) { return 0; }
    static int fc_has_avx512(void) { return 0; }
    #endif

    #if defined(__clang__)
    #define FC_COMPILER "Clang " __clang_version__
    #elif defined(__GNUC__)
    #define FC_COMPILER "GCC " __VERSION__
    #else
    #define FC_COMPILER "a C compiler without GCC's vector extensions"
    #endif

    #if defined(__x86_64__)
    #define FC_BASELINE "x86-64 SSE2"
    #elif defined(__aarch64__)
    #define FC_BASELINE "aarch64 NEON"
    #else
    #define FC_BASELINE "plain C"
    #endif
    """
    bint fc_has_avx2() nogil
    bint fc_has_avx512() nogil
    const char* FC_COMPILER
    const char* FC_BASELINE


def levels():
    """The instruction-set levels of the build table that this machine runs, best first."""
    wide = [("avx512", fc_has_avx512()), ("avx2", fc_has_avx2())]
    return tuple(name for name, present in wide if present) + ("baseline",)


def compiler():
    """Name and version of the C compiler that built the kernels."""
    return FC_COMPILER.decode()


def baseline():
    """What "baseline" means on this processor family."""
    return FC_BASELINE.decode()
