import com.amazon.randomcutforest.RandomCutForest;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Scores and updates a random cut forest for each entity, row after row; see benchmarks/other_systems.py.
 *
 * Arguments: file of little-endian doubles (rows x metrics, entities in turn), entities, metrics,
 * rows before the measurement. Answers each line of its input with the seconds of one pass over the
 * rest, and the number of scores that are not finite.
 */
public class RandomCutForestTimes {
    public static void main(String[] arguments) throws Exception {
        byte[] bytes = Files.readAllBytes(Path.of(arguments[0]));
        DoubleBuffer values = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asDoubleBuffer();
        int entities = Integer.parseInt(arguments[1]);
        int metrics = Integer.parseInt(arguments[2]);
        int before = Integer.parseInt(arguments[3]);
        int rows = values.limit() / metrics;
        BufferedReader asked = new BufferedReader(new InputStreamReader(System.in));
        while (asked.readLine() != null) {
            RandomCutForest[] forests = new RandomCutForest[entities];
            for (int entity = 0; entity < entities; entity++) {
                forests[entity] = RandomCutForest.builder()
                        .dimensions(metrics)
                        .numberOfTrees(50)
                        .sampleSize(256)
                        .randomSeed(entity)
                        .parallelExecutionEnabled(false)
                        .build();
            }
            score(forests, values, metrics, 0, before);
            long beganNs = System.nanoTime();
            int unknown = score(forests, values, metrics, before, rows);
            System.out.println((System.nanoTime() - beganNs) / 1e9 + " " + unknown);
        }
    }

    private static int score(
            RandomCutForest[] forests, DoubleBuffer values, int metrics, int start, int stop) {
        double[] point = new double[metrics];
        int unknown = 0;
        for (int row = start; row < stop; row++) {
            for (int metric = 0; metric < metrics; metric++) {
                point[metric] = values.get(row * metrics + metric);
            }
            RandomCutForest forest = forests[row % forests.length];
            if (!Double.isFinite(forest.getAnomalyScore(point))) {
                unknown++;
            }
            forest.update(point);
        }
        return unknown;
    }
}
