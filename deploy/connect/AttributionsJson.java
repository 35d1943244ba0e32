import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.connector.ConnectRecord;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.transforms.Transformation;

/**
 * Replaces the map of attributions by attributions_json, the same shares as JSON text: keys in
 * order, so that the same record gives the same text. Other fields stay as they are, and so do
 * records without the map. A JDBC sink can then store the record in any database.
 */
public class AttributionsJson<R extends ConnectRecord<R>> implements Transformation<R> {
  private static final String MAP = "attributions";
  private static final String TEXT = "attributions_json";

  private final ObjectMapper json = new ObjectMapper();
  private final Map<Schema, Schema> schemas = new HashMap<>();

  @Override
  public R apply(R record) {
    if (!(record.value() instanceof Struct) || record.valueSchema().field(MAP) == null) {
      return record;
    }
    Struct value = (Struct) record.value();
    Schema schema = schemas.computeIfAbsent(record.valueSchema(), AttributionsJson::withText);
    Struct changed = new Struct(schema);
    for (Field field : value.schema().fields()) {
      if (field.name().equals(MAP)) {
        changed.put(TEXT, text(value.getMap(MAP)));
      } else {
        changed.put(field.name(), value.get(field));
      }
    }
    return record.newRecord(
        record.topic(), record.kafkaPartition(), record.keySchema(), record.key(), schema, changed,
        record.timestamp());
  }

  private String text(Map<String, Object> shares) {
    if (shares == null) {
      return null;
    }
    try {
      return json.writeValueAsString(new TreeMap<>(shares));
    } catch (JsonProcessingException error) {
      throw new DataException("the attributions cannot be written as JSON", error);
    }
  }

  private static Schema withText(Schema schema) {
    SchemaBuilder builder = SchemaBuilder.struct().name(schema.name()).version(schema.version());
    for (Field field : schema.fields()) {
      if (field.name().equals(MAP)) {
        builder.field(TEXT, Schema.OPTIONAL_STRING_SCHEMA);
      } else {
        builder.field(field.name(), field.schema());
      }
    }
    return builder.build();
  }

  @Override
  public ConfigDef config() {
    return new ConfigDef();
  }

  @Override
  public void configure(Map<String, ?> settings) {}

  @Override
  public void close() {}
}
