// Near pairs of charges, each once: found in bins, kept as neighbours and kernels row by row. Formulas of pairs.py.

#include <cmath>
#include <cstdint>

#include "parallel.h"

extern "C" {

struct Search {
    int64_t n;
    const double* positions;    // [n, 3] Å, in the order of the bins
    const double* cell;         // [3, 3] Å
    double cutoff;              // Å
    const uint8_t* wanted;      // [n]; a pair is left out when neither atom is wanted
    const int64_t* bin_start;   // [n_bins + 1], the last vector's bins side by side
    int64_t number[3];          // bins along each vector
    int64_t reach[3];           // bins to look at on either side
    const uint8_t* kind;        // [n] width of each atom, a row of the tables
    int64_t n_kinds;
    const double* exponent;     // [n_kinds, n_kinds] g, Å^-1
    const double* edge;         // [2, n_kinds, n_kinds] B_0 and B_1 at the cutoff
    double mesh_exponent;       // b = 1 / (sqrt2 eta), Å^-1
    double coulomb;             // eV Å / e^2
    int64_t n_threads;
};
}

// Rows of atoms that may be neighbours of those in a bin, as they lie in one image of the cell
struct Run {
    long first, last;
    double shift[3];
    bool upper;  // of an image and its opposite: the one in which an atom meets its own image
};

static long wrapped(long place, long n, long& image) {
    image = place >= 0 ? place / n : -((n - 1 - place) / n);
    return place - image * n;
}

static void runs_of(const Search& s, long bin, std::vector<Run>& runs) {
    runs.clear();
    const int64_t *number = s.number, *reach = s.reach;
    const long x = bin / (number[1] * number[2]), y = bin / number[2] % number[1], z = bin % number[2];
    for (long a = x - reach[0]; a <= x + reach[0]; a++) {
        for (long b = y - reach[1]; b <= y + reach[1]; b++) {
            long image[3];
            const long row = (wrapped(a, number[0], image[0]) * number[1] + wrapped(b, number[1], image[1])) * number[2];
            for (long c = z - reach[2]; c <= z + reach[2];) {
                const long from = wrapped(c, number[2], image[2]);
                const long length = std::min(number[2] - from, z + reach[2] - c + 1);
                Run run{s.bin_start[row + from], s.bin_start[row + from + length], {}, false};
                for (int k = 0; k < 3; k++) {
                    run.shift[k] = image[0] * s.cell[k] + image[1] * s.cell[3 + k] + image[2] * s.cell[6 + k];
                }
                const long sign = image[0] != 0 ? image[0] : image[1] != 0 ? image[1] : image[2];
                run.upper = sign > 0;
                c += length;
                if (run.last > s.bin_start[bin]) {
                    runs.push_back(run);
                }
            }
        }
    }
}

// hit(i, j, r_j - r_i, its square) of each pair of atoms first .. last with a later one, or with an image of itself
template <class Hit> static void search(const Search& s, long first, long last, Hit&& hit) {
    constexpr int WIDTH = 64;
    std::vector<Run> runs;
    const double limit = s.cutoff * s.cutoff;
    long bin = std::upper_bound(s.bin_start, s.bin_start + s.number[0] * s.number[1] * s.number[2], first) - s.bin_start - 1;
    for (long i = first; i < last; bin++) {
        if (s.bin_start[bin + 1] <= i) {
            continue;
        }
        runs_of(s, bin, runs);
        for (; i < std::min<long>(last, s.bin_start[bin + 1]); i++) {
            const double* centre = s.positions + 3 * i;
            for (const Run& run : runs) {
                const double from[3] = {centre[0] - run.shift[0], centre[1] - run.shift[1], centre[2] - run.shift[2]};
                for (long j = std::max(run.first, run.upper ? i : i + 1); j < run.last; j += WIDTH) {
                    const int many = static_cast<int>(std::min<long>(WIDTH, run.last - j));
                    double r[3][WIDTH], square[WIDTH];
                    const double* there = s.positions + 3 * j;
                    for (int k = 0; k < many; k++) {
                        r[0][k] = there[3 * k] - from[0];
                        r[1][k] = there[3 * k + 1] - from[1];
                        r[2][k] = there[3 * k + 2] - from[2];
                        square[k] = r[0][k] * r[0][k] + r[1][k] * r[1][k] + r[2][k] * r[2][k];
                    }
                    for (int k = 0; k < many; k++) {
                        if (square[k] < limit && (s.wanted[i] | s.wanted[j + k])) {
                            const double vector[3] = {r[0][k], r[1][k], r[2][k]};
                            hit(i, j + k, vector, square[k]);
                        }
                    }
                }
            }
        }
    }
}

extern "C" {

// count [n] of each atom's pairs
void mlip_count_pairs(const Search* s, int64_t* count) {
    in_parts(s->n, static_cast<int>(s->n_threads), [&](int, long first, long last) {
        std::fill(count + first, count + last, 0);
        search(*s, first, last, [&](long i, long, const double*, double) { count[i]++; });
    });
}

// neighbour and k_e B_0 of every pair; start [n + 1]: where each atom's pairs begin
void mlip_fill_pairs(const Search* s, const int64_t* start, int32_t* neighbour, double* kernel) {
    const double limit = s->cutoff * s->cutoff;
    in_parts(s->n, static_cast<int>(s->n_threads), [&](int, long first, long last) {
        long p = start[first];
        search(*s, first, last, [&](long i, long j, const double*, double square) {
            const long both = s->kind[i] * s->n_kinds + s->kind[j];
            const double d = std::sqrt(square), *edge = s->edge + both;
            const double inside = (std::erfc(s->mesh_exponent * d) - std::erfc(s->exponent[both] * d)) / d;
            neighbour[p] = static_cast<int32_t>(j);
            kernel[p++] = s->coulomb * (inside - edge[0] + 0.5 * edge[s->n_kinds * s->n_kinds] * (square - limit));
        });
    });
}

// potential [n] V of charges [n] e
void mlip_apply_pairs(long n, const int64_t* start, const int32_t* neighbour, const double* kernel,
                      const double* charges, int n_threads, double* potential) {
    std::vector<std::vector<double>> parts(n_threads);
    in_parts(n, n_threads, [&](int thread, long first, long last) {
        double* out = potential;
        if (thread > 0) {
            parts[thread].assign(n, 0.0);
            out = parts[thread].data();
        } else {
            std::fill(potential, potential + n, 0.0);
        }
        for (long i = first; i < last; i++) {
            double sum = 0;
            for (long p = start[i]; p < start[i + 1]; p++) {
                sum += kernel[p] * charges[neighbour[p]];
                out[neighbour[p]] += kernel[p] * charges[i];
            }
            out[i] += sum;
        }
    });
    for (const auto& part : parts) {
        for (size_t i = 0; i < part.size(); i++) {
            potential[i] += part[i];
        }
    }
}

// slope [n, 3] eV/Å of the pair energy by positions, virial [3, 3] eV by strain
void mlip_pair_slopes(const Search* s, const int64_t* start, const double* kernel, const double* charges,
                      double* slope, double* virial) {
    const double limit = s->cutoff * s->cutoff, b = s->mesh_exponent, two = 2.0 / std::sqrt(std::acos(-1.0));
    const long n_values = 3 * s->n + 9;
    std::vector<std::vector<double>> parts(s->n_threads);
    in_parts(s->n, static_cast<int>(s->n_threads), [&](int thread, long first, long last) {
        parts[thread].assign(n_values, 0.0);
        double *by_position = parts[thread].data(), *by_strain = by_position + 3 * s->n;
        long p = start[first];
        search(*s, first, last, [&](long i, long j, const double* r, double square) {
            const long both = s->kind[i] * s->n_kinds + s->kind[j];
            const double g = s->exponent[both], *edge = s->edge + both, edge1 = edge[s->n_kinds * s->n_kinds];
            const double inside = kernel[p++] / s->coulomb + edge[0] - 0.5 * edge1 * (square - limit);
            const double gauss = two * (g * std::exp(-g * g * square) - b * std::exp(-b * b * square));
            const double scale = s->coulomb * charges[i] * charges[j] * ((inside - gauss) / square - edge1);
            for (int k = 0; k < 3; k++) {
                by_position[3 * i + k] += scale * r[k];
                by_position[3 * j + k] -= scale * r[k];
                for (int l = 0; l < 3; l++) {
                    by_strain[3 * k + l] -= scale * r[k] * r[l];
                }
            }
        });
    });
    std::fill(slope, slope + 3 * s->n, 0.0);
    std::fill(virial, virial + 9, 0.0);
    for (const auto& part : parts) {
        for (long k = 0; k < static_cast<long>(part.size()); k++) {
            (k < 3 * s->n ? slope[k] : virial[k - 3 * s->n]) += part[k];
        }
    }
}
}
