// Neighbours of one atom: distances as the network sees them, harmonics, radial functions; and from gradients of these
// to forces. In double precision, as many edges at a time as a register holds; what leaves is float.
// The equations stand in mlip/nn/sphere.py, mlip/nn/radial.py, mlip/models/data_limits.py, repulsion.py, wall.py.
#pragma once

#include "sizes.h"

namespace mlip {

constexpr int GROUP = WIDTH / 2;
typedef double dvec __attribute__((vector_size(8 * GROUP)));

struct System {
    const double* positions;    // [n_atoms, 3] Å
    const int64_t* batch;       // [n_own]
    const int32_t* species;     // [n_atoms]
    const long* first;          // [n_own + 1], edges of an atom; they are sorted by the element of the neighbour
    const int32_t* neighbours;  // [n_edges]
    const double* offsets;      // [n_edges, 3] Å, of the neighbour's image
};

// Edges side by side; empty lanes lie at the cutoff, where every function is zero
struct Edges {
    dvec unit[3], r, seen, slope;  // seen: r, or the limit of the data; slope = d seen / d r
    dvec envelope, envelope_slope;
};

// (f, f') of mlip.nn.radial.soft_floor, width 0.1
static inline void soft_floor(double x, double& f, double& slope) {
    const double width = 0.1;
    double t = (x - 1.0 + width) / width;
    t = t < 0.0 ? 0.0 : t > 1.0 ? 1.0 : t;
    f = 1.0 - 0.5 * width + width * t * t * t * t * (2.5 - 3.0 * t + t * t) + (x > 1.0 ? x - 1.0 : 0.0);
    slope = x > 1.0 ? 1.0 : t * t * t * (10.0 - 15.0 * t + 6.0 * t * t);
}

// (w, w') of mlip.models.wall.rise, onset 0.1
static inline void rise(double y, double& w, double& slope) {
    const double onset = 0.1, below = y + onset;
    w = y * y * y * y / (below * below);
    slope = y * y * y * (4.0 / (below * below) - 2.0 * y / (below * below * below));
}

// (u, u') of mlip.nn.radial.polynomial_cutoff, p = 6, x = r / cutoff
template <class T>
static inline void cutoff_function(T x, T& u, T& slope) {
    const T x2 = x * x, x5 = x2 * x2 * x;
    u = 1.0 - x5 * x * (28.0 - x * (48.0 - 21.0 * x));
    slope = -168.0 * x5 * (1.0 - x) * (1.0 - x);
}

static inline void look(const Model& model, const System& system, long atom, long edge, int count, Edges& e) {
    const double* here = system.positions + 3 * atom;
    const Pair* pairs = model.pairs + system.species[atom] * model.n_elements;
    dvec v[3] = {dvec{} + model.cutoff, dvec{}, dvec{}};
    double limit[GROUP] = {};
    for (int i = 0; i < count; i++) {
        const long j = system.neighbours[edge + i];
        const double* offset = system.offsets + 3 * (edge + i);
        const double* there = system.positions + 3 * j;
        for (int x = 0; x < 3; x++) v[x][i] = there[x] - here[x] + offset[x];
        limit[i] = pairs[system.species[j]].limit;
    }
    const dvec square = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
    for (int i = 0; i < GROUP; i++) e.r[i] = std::sqrt(square[i]);
    e.seen = e.r;
    e.slope = dvec{} + 1.0;
    bool near = false;
    for (int i = 0; i < GROUP; i++) near |= e.r[i] < limit[i];
    if (near)
        for (int i = 0; i < count; i++)
            if (e.r[i] < limit[i]) {
                double f, slope;
                soft_floor(e.r[i] / limit[i], f, slope);
                e.seen[i] = limit[i] * f;
                e.slope[i] = slope;
            }
    const dvec inverse = 1.0 / e.r;
    for (int x = 0; x < 3; x++) e.unit[x] = v[x] * inverse;
    dvec x = e.seen * (1.0 / model.cutoff);
    x = x > 1.0 ? dvec{} + 1.0 : x;
    cutoff_function(x, e.envelope, e.envelope_slope);
    e.envelope_slope *= 1.0 / model.cutoff;
}

// sine and cosine of x in [0, pi], by their series around pi / 2
static inline void sine_cosine(dvec x, dvec& sine, dvec& cosine) {
    const dvec y = x - M_PI / 2, z = y * y;
    dvec c = dvec{} + 1.0, s = dvec{} + 1.0;
#pragma GCC unroll 9
    for (int k = 8; k > 0; k--) {
        c = 1.0 - c * z * (1.0 / ((2 * k - 1) * (2 * k)));
        s = 1.0 - s * z * (1.0 / ((2 * k) * (2 * k + 1)));
    }
    sine = c;
    cosine = -s * y;
}

// sin(n pi r / c), cos(n pi r / c), n = 1 .. BASIS
static inline void waves(const Edges& e, double cutoff, dvec (&sine)[BASIS], dvec (&cosine)[BASIS]) {
    sine_cosine(e.seen * (M_PI / cutoff), sine[0], cosine[0]);
    const dvec twice = 2.0 * cosine[0];
    dvec sine_before = dvec{}, cosine_before = dvec{} + 1.0;
#pragma GCC unroll 16
    for (int n = 1; n < BASIS; n++) {
        sine[n] = twice * sine[n - 1] - sine_before;
        cosine[n] = twice * cosine[n - 1] - cosine_before;
        sine_before = sine[n - 1];
        cosine_before = cosine[n - 1];
    }
}

// Derivatives of the Legendre polynomials, P[l][m] = d^m P_l / dz^m; C[m] + i S[m] = (x + i y)^m
struct Polynomials {
    dvec P[DEGREE + 1][DEGREE + 2], C[DEGREE + 1], S[DEGREE + 1];
};
static inline void polynomials(const dvec (&unit)[3], Polynomials& p) {
    const dvec x = unit[0], y = unit[1], z = unit[2];
    p.C[0] = dvec{} + 1.0;
    p.S[0] = dvec{};
#pragma GCC unroll 8
    for (int m = 1; m <= DEGREE; m++) {
        p.C[m] = x * p.C[m - 1] - y * p.S[m - 1];
        p.S[m] = x * p.S[m - 1] + y * p.C[m - 1];
    }
#pragma GCC unroll 8
    for (int l = 0; l <= DEGREE; l++)
#pragma GCC unroll 8
        for (int m = 0; m <= l + 1; m++) {
            if (m > l) {
                p.P[l][m] = dvec{};
            } else if (m == l) {
                double odd = 1.0;
                for (int k = 1; k <= l; k++) odd *= 2 * k - 1;
                p.P[l][m] = dvec{} + odd;
            } else if (m == l - 1) {
                p.P[l][m] = (2.0 * m + 1.0) * z * p.P[m][m];
            } else {
                p.P[l][m] = ((2.0 * l - 1.0) * z * p.P[l - 1][m] - (l + m - 1.0) * p.P[l - 2][m]) * (1.0 / (l - m));
            }
        }
}

// sqrt((2 l + 1) (l - m)! / (l + m)! (2 if m > 0)): the mean of Y^2 over the sphere is one
static const struct Norms {
    double value[DEGREE + 1][DEGREE + 1];
    Norms() {
        for (int l = 0; l <= DEGREE; l++)
            for (int m = 0; m <= l; m++) {
                double ratio = (2.0 * l + 1.0) * (m > 0 ? 2.0 : 1.0);
                for (int k = l - m + 1; k <= l + m; k++) ratio /= k;
                value[l][m] = std::sqrt(ratio);
            }
    }
} norms;

// Harmonics [edge, lm] and radial functions [edge, n] of an atom, the latter times its density scale; returns the
// crowding
static double describe(const Model& model, const System& system, long atom, float* harmonics, float* basis) {
    double crowding = 0.0;
    const double prefactor = std::sqrt(2.0 / 3.0) * model.cutoff;
    for (long edge = system.first[atom]; edge < system.first[atom + 1]; edge += GROUP) {
        const long left = system.first[atom + 1] - edge;
        const int count = left < GROUP ? left : GROUP;
        Edges e;
        look(model, system, atom, edge, count, e);
        for (int i = 0; i < count; i++) crowding += e.envelope[i];
        Polynomials p;
        polynomials(e.unit, p);
        dvec y[HARMONICS];
#pragma GCC unroll 8
        for (int l = 0; l <= DEGREE; l++) {
            y[l * l + l] = norms.value[l][0] * p.P[l][0];
#pragma GCC unroll 8
            for (int m = 1; m <= l; m++) {
                const dvec scaled = norms.value[l][m] * p.P[l][m];
                y[l * l + l + m] = scaled * p.C[m];
                y[l * l + l - m] = scaled * p.S[m];
            }
        }
        dvec sine[BASIS], cosine[BASIS];
        waves(e, model.cutoff, sine, cosine);
        const dvec factor = prefactor * e.envelope / e.seen;
        for (int n = 0; n < BASIS; n++) sine[n] *= factor;
        for (int i = 0; i < count; i++) {
            float* to = harmonics + (edge + i) * HARMONICS_ROW;
            for (int lm = 0; lm < HARMONICS; lm++) to[lm] = y[lm][i];
            for (int lm = HARMONICS; lm < HARMONICS_ROW; lm++) to[lm] = 0.0f;
            to = basis + (edge + i) * BASIS_ROW;
            for (int n = 0; n < BASIS; n++) to[n] = sine[n][i];
            for (int n = BASIS; n < BASIS_ROW; n++) to[n] = 0.0f;
        }
    }
    return crowding;
}

// Density scale of a crowded atom and its derivative by the crowding: the mirror image of a soft floor
static inline void density_scale(double crowding, double most, double& scale, double& slope) {
    scale = 1.0;
    slope = 0.0;
    if (crowding > most) {
        const double ratio = crowding / most;
        double f, df;
        soft_floor(2.0 - ratio, f, df);
        scale = (2.0 - f) / ratio;
        slope = (df / ratio - (2.0 - f) / (ratio * ratio)) / most;
    }
}

// Energy and its derivative by r of ZBL and of the wall, half of a pair's, eV and eV/Å
static inline void pair_terms(const Pair& pair, double r, double& energy, double& slope) {
    if (r < pair.zbl_reach) {
        const double strength[4] = {0.18175, 0.50986, 0.28022, 0.02817}, decay[4] = {3.19980, 0.94229, 0.40290, 0.20162};
        double screening = 0.0, derivative = 0.0, u, du;
        for (int k = 0; k < 4; k++) {
            const double part = strength[k] * std::exp(-decay[k] * r * pair.zbl_inverse_length);
            screening += part;
            derivative -= decay[k] * pair.zbl_inverse_length * part;
        }
        cutoff_function(r / pair.zbl_reach, u, du);
        const double bare = 0.5 * pair.zbl_strength / r;
        energy += bare * screening * u;
        slope += bare * (derivative * u - screening * u / r + screening * du / pair.zbl_reach);
    }
    if (r < pair.wall_reach) {
        double w, dw;
        rise(1.0 - r / pair.wall_reach, w, dw);
        energy += 0.5 * pair.wall_strength * w;
        slope -= 0.5 * pair.wall_strength * dw / pair.wall_reach;
    }
}

// Forces and virial of an atom from the gradients of the network by its harmonics [edge, lm] and radial functions
// [edge, n]; with_terms: and of the pair terms and of the wall, whose energy it returns. virials: of each atom, or null
static double forces_of(const Model& model, const System& system, long atom, double crowding, const float* basis,
                        const float* d_harmonics, const float* d_basis, bool with_terms, double* forces, double* virial,
                        double* virials) {
    const Element& element = model.elements[system.species[atom]];
    const Pair* pairs = model.pairs + system.species[atom] * model.n_elements;
    double scale, scale_slope, energy = with_terms ? element.energy : 0.0, d_crowding = 0.0;
    density_scale(crowding, element.most, scale, scale_slope);
    if (scale_slope != 0.0) {
        double sum = 0.0;
        for (long k = system.first[atom] * BASIS_ROW; k < system.first[atom + 1] * BASIS_ROW; k++)
            sum += double(d_basis[k]) * basis[k];
        d_crowding += sum / scale * scale_slope;
    }
    if (with_terms && crowding > element.wall_most) {
        double w, dw;
        rise(crowding / element.wall_most - 1.0, w, dw);
        energy += element.wall_strength * w;
        d_crowding += element.wall_strength * dw / element.wall_most;
    }
    if (with_terms && crowding < element.wall_least) {
        double f, df, w, dw;
        soft_floor(crowding / element.wall_flat, f, df);
        rise(1.0 - f * element.wall_flat / element.wall_least, w, dw);
        energy += element.cohesion_strength * w;
        d_crowding -= element.cohesion_strength * dw * df / element.wall_least;
    }
    const double prefactor = std::sqrt(2.0 / 3.0) * model.cutoff, wave = M_PI / model.cutoff;
    double own[3] = {}, tensor[9] = {};
    for (long edge = system.first[atom]; edge < system.first[atom + 1]; edge += GROUP) {
        const long left = system.first[atom + 1] - edge;
        const int count = left < GROUP ? left : GROUP;
        Edges e;
        look(model, system, atom, edge, count, e);
        dvec gy[HARMONICS] = {}, gb[BASIS] = {};
        for (int i = 0; i < count; i++) {
            for (int lm = 0; lm < HARMONICS; lm++) gy[lm][i] = d_harmonics[(edge + i) * HARMONICS_ROW + lm];
            for (int n = 0; n < BASIS; n++) gb[n][i] = d_basis[(edge + i) * BASIS_ROW + n];
        }
        Polynomials p;
        polynomials(e.unit, p);
        dvec g[3] = {dvec{}, dvec{}, dvec{}};
#pragma GCC unroll 8
        for (int l = 1; l <= DEGREE; l++) {
            g[2] += gy[l * l + l] * (norms.value[l][0] * p.P[l][1]);
#pragma GCC unroll 8
            for (int m = 1; m <= l; m++) {
                const dvec plus = norms.value[l][m] * gy[l * l + l + m], minus = norms.value[l][m] * gy[l * l + l - m];
                g[2] += p.P[l][m + 1] * (plus * p.C[m] + minus * p.S[m]);
                const dvec by_power = double(m) * p.P[l][m];
                g[0] += by_power * (plus * p.C[m - 1] + minus * p.S[m - 1]);
                g[1] += by_power * (minus * p.C[m - 1] - plus * p.S[m - 1]);
            }
        }
        dvec sine[BASIS], cosine[BASIS];
        waves(e, model.cutoff, sine, cosine);
        dvec by_sine = dvec{}, by_cosine = dvec{};
#pragma GCC unroll 16
        for (int n = 0; n < BASIS; n++) {
            by_sine += gb[n] * sine[n];
            by_cosine += gb[n] * cosine[n] * ((n + 1) * wave);
        }
        const dvec inverse = 1.0 / e.seen;
        const dvec d_seen = scale * prefactor * inverse *
                                (by_cosine * e.envelope + by_sine * (e.envelope_slope - e.envelope * inverse)) +
                            d_crowding * e.envelope_slope;
        dvec d_r = d_seen * e.slope;
        for (int i = 0; i < count; i++) {
            const Pair& pair = pairs[system.species[system.neighbours[edge + i]]];
            if (with_terms && (e.r[i] < pair.zbl_reach || e.r[i] < pair.wall_reach)) {
                double one = 0.0, slope = 0.0;
                pair_terms(pair, e.r[i], one, slope);
                energy += one;
                d_r[i] += slope;
            }
        }
        const dvec along = g[0] * e.unit[0] + g[1] * e.unit[1] + g[2] * e.unit[2], over = 1.0 / e.r;
        for (int x = 0; x < 3; x++) g[x] = d_r * e.unit[x] + (g[x] - along * e.unit[x]) * over;
        for (int i = 0; i < count; i++) {
            double* there = forces + 3 * system.neighbours[edge + i];
            for (int x = 0; x < 3; x++) {
                own[x] += g[x][i];
                there[x] -= g[x][i];
                for (int y = 0; y < 3; y++) tensor[3 * x + y] += e.r[i] * e.unit[x][i] * g[y][i];
            }
            if (virials == nullptr) continue;
            for (int k = 0; k < 9; k++) {
                const double half = 0.5 * e.r[i] * e.unit[k / 3][i] * g[k % 3][i];
                virials[9 * atom + k] += half;
                virials[9 * system.neighbours[edge + i] + k] += half;
            }
        }
    }
    for (int x = 0; x < 3; x++) forces[3 * atom + x] += own[x];
    for (int x = 0; x < 9; x++) virial[9 * system.batch[atom] + x] += tensor[x];
    return energy;
}

}  // namespace mlip
